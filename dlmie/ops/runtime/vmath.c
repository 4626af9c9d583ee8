/* Numbers of vmath.h that the compiler must not see in the loops that use them. */
#include "vmath.h"

#ifndef DLMIE_DOUBLE
const float dlmie_tanh_top = 8.94f, dlmie_tanh_bottom = -8.94f;
#endif
