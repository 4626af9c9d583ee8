/* Beam search between two words: the best continuations of every image's hypotheses.
 *
 * One pass over the log-probabilities.  A vector of them is looked at word by word only where one may
 * be among the best so far, which soon is rare; the list of the best is kept in order by insertion.
 * Images are independent: results do not depend on the number of threads.
 */
#include "vectors.h"

/* The best of an image so far, by falling total; of equals the first place comes first. */
typedef struct {
    int64_t size, room;
    int64_t *places;
    double *totals;
} best_list;

/* Places come in rising order: one that equals the last of a full list is worse. */
static inline int is_better(const best_list *best, double total) {
    return best->size < best->room || total > best->totals[best->size - 1];
}

static void insert(best_list *best, int64_t place, double total) {
    int64_t i = best->size < best->room ? best->size++ : best->size - 1;
    for (; i > 0 && best->totals[i - 1] < total; i--) {
        best->totals[i] = best->totals[i - 1];
        best->places[i] = best->places[i - 1];
    }
    best->totals[i] = total;
    best->places[i] = place;
}

enum { VECTORS = 4, CHUNK = VECTORS * LANES }; /* words that are looked at together */

/* Whether one of a chunk exceeds the limit, or is NaN. */
static inline int any_above(const real *logs, vec limit) {
    index_vec above = {0};
    for (int i = 0; i < VECTORS; i++) above |= ~(load(logs + i * LANES) <= limit);
    lane_index any = 0;
    for (int l = 0; l < LANES; l++) any |= above[l];
    return any != 0;
}

/* The words of one hypothesis; 1 if one is NaN. */
static int scan(const real *logs, int64_t words, double score, int64_t place, best_list *best) {
    for (int64_t j = 0; j < words;) {
        if (best->size == best->room) {
            const double last = best->totals[best->size - 1], limit = last - score;
            /* Rounding must not hide a word: the limit is a little too low. */
            const double margin = 1e-6 * fabs(limit) + 1e-12 * (fabs(last) + fabs(score));
            const vec low = broadcast((real)(limit - margin));
            while (j + CHUNK <= words && !any_above(logs + j, low)) j += CHUNK;
        }
        for (const int64_t end = min64(j + CHUNK, words); j < end; j++) {
            if (isnan(logs[j])) return 1;
            const double total = score + (double)logs[j];
            if (is_better(best, total)) insert(best, place + j, total);
        }
    }
    return 0;
}

static int64_t first_largest(const real *x, int64_t n) {
    vec most = broadcast(-(real)INFINITY);
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) {
        const vec v = load(x + j);
        most = choose(v > most, v, most);
    }
    real largest = -(real)INFINITY;
    for (int l = 0; l < LANES; l++) largest = most[l] > largest ? most[l] : largest;
    for (; j < n; j++) largest = x[j] > largest ? x[j] : largest;
    for (j = 0; j < n && x[j] != largest; j++);
    return j;
}

/* continue_beams: logs (images, beams, words), whose log-probabilities of the word `end` become -inf;
 * scores (images, beams) of the hypotheses; greedy (images): the beam that holds the greedy one, or -1,
 * becomes its place among the chosen; beam: the most that are chosen; count: how many there are
 *   -> chosen (images, count), places beam x words + word, and their totals;
 *      ends (images, beams): totals of hypotheses that end here, and ending: whether they do.
 * Returns 1 where a log-probability is NaN. */
EXPORT int KERNEL(continue_beams)(int64_t images, int64_t beams, int64_t words, int64_t beam,
                                  int64_t count, int64_t end, real *logs, const double *scores,
                                  int64_t *greedy, int64_t *chosen, double *totals, double *ends,
                                  uint8_t *ending) {
    int broken = 0;
#pragma omp parallel for schedule(static) reduction(| : broken) if (images * beams * words > 200000)
    for (int64_t i = 0; i < images; i++) {
        real *rows = logs + i * beams * words;
        const double *score = scores + i * beams;
        double *ended = ends + i * beams, *total = totals + i * count;
        int64_t *place = chosen + i * count;
        uint8_t *does_end = ending + i * beams;
        const int64_t held = greedy[i];
        const real greedy_end = held >= 0 ? rows[held * words + end] : 0;
        best_list best = {0, count, place, total};
        for (int64_t b = 0; b < beams; b++) {
            ended[b] = score[b] + (double)rows[b * words + end];
            broken |= isnan(ended[b]);
            rows[b * words + end] = -(real)INFINITY;
        }
        for (int64_t b = 0; b < beams; b++)
            broken |= scan(rows + b * words, words, score[b], b * words, &best);
        /* A hypothesis ends where its end is among the `beam` best words and ends. */
        for (int64_t b = 0; b < beams; b++) {
            const int64_t own = b * words + end;
            int64_t before = 0;
            for (int64_t k = 0; k < best.size; k++)
                before += total[k] > ended[b] || (total[k] == ended[b] && place[k] < own);
            for (int64_t k = 0; k < beams; k++)
                before += ended[k] > ended[b] || (ended[k] == ended[b] && k < b);
            does_end[b] = before < beam && ended[b] > -INFINITY;
        }
        greedy[i] = -1;
        if (held < 0) continue;
        const real *row = rows + held * words;
        const int64_t word = first_largest(row, words);
        if (word == words) continue; /* NaN */
        if (greedy_end > row[word] || (greedy_end == row[word] && end < word)) {
            does_end[held] = ended[held] > -INFINITY;
            continue;
        }
        if (row[word] == -(real)INFINITY) continue;
        int64_t at = 0;
        while (at < count && place[at] != held * words + word) at++;
        if (at == count) { /* it was lost: it takes the last place */
            at = count - 1;
            place[at] = held * words + word;
            total[at] = score[held] + (double)row[word];
        }
        greedy[i] = at;
    }
    return broken;
}
