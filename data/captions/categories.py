"""The words by which captions name the 80 categories of COCO's boxes."""

from __future__ import annotations

# Beside a category's own name and its plural: what people call it.  A category of two words is
# named by the one that says what it is.
_OTHER_NAMES: dict[str, str] = {
    "person": (
        "people man men woman women boy boys girl girls child children kid kids baby babies "
        "toddler toddlers lady ladies guy guys gentleman player players rider riders skier skiers "
        "surfer surfers skateboarder skateboarders snowboarder snowboarders skater skaters batter "
        "pitcher catcher umpire hitter biker bikers cyclist cyclists bicyclist motorcyclist "
        "climber hiker hikers runner runners swimmer worker officer soldier soldiers policeman "
        "chef teenager adult adults couple crowd family friends passengers pedestrians someone"
    ),
    "bicycle": "bike bikes",
    "motorcycle": "motorbike motorbikes bike bikes scooter moped",
    "car": "suv taxi van",
    "airplane": "plane planes jet jets aircraft airliner jetliner",
    "train": "locomotive",
    "truck": "pickup van",
    "boat": "sailboat sailboats ship ships canoe kayak",
    "traffic light": "light lights stoplight signal",
    "fire hydrant": "hydrant hydrants",
    "stop sign": "sign signs",
    "parking meter": "meter meters",
    "bird": "pigeon pigeons seagull seagulls parrot duck ducks owl eagle",
    "cat": "kitten kittens kitty",
    "dog": "puppy puppies",
    "horse": "pony ponies",
    "sheep": "lamb lambs",
    "cow": "cattle bull bulls calf",
    "bear": "bears cub cubs",
    "backpack": "bag bags",
    "handbag": "purse bag bags",
    "tie": "necktie",
    "suitcase": "luggage bag bags",
    "skis": "ski",
    "sports ball": "ball balls football basketball baseball",
    "baseball bat": "bat bats",
    "baseball glove": "glove gloves mitt",
    "skateboard": "board",
    "snowboard": "board",
    "surfboard": "board",
    "tennis racket": "racket rackets racquet",
    "wine glass": "glass glasses wine",
    "cup": "mug mugs glass glasses",
    "knife": "knives",
    "bowl": "dish",
    "sandwich": "burger",
    "hot dog": "hotdog hotdogs",
    "donut": "doughnut doughnuts",
    "couch": "sofa",
    "potted plant": "plant plants",
    "dining table": "table tables",
    "tv": "television screen monitor",
    "laptop": "computer computers",
    "mouse": "mice",
    "remote": "controller",
    "cell phone": "phone phones cellphone",
    "oven": "stove",
    "refrigerator": "fridge",
    "toothbrush": "brush",
    "teddy bear": "teddy bear bears",
    "hair drier": "dryer",
    "scissors": "scissor",
}


def category_words(category: str) -> list[str]:
    """The single words that name a category in a caption, sorted.

    Parameters
    ----------
    category
        Its name in COCO's files; for one that COCO does not have, the name itself and its plural
        are all that is known.

    Examples
    --------
    >>> category_words("motorcycle")
    ['bike', 'bikes', 'moped', 'motorbike', 'motorbikes', 'motorcycle', 'motorcycles', 'scooter']
    """
    words = set(_OTHER_NAMES.get(category, "").split())
    if " " not in category:
        words |= {category, _plural(category)}
    elif not words:
        words |= {category.split()[-1], _plural(category.split()[-1])}
    return sorted(words)


def _plural(word: str) -> str:
    if word.endswith(("s", "x", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"
