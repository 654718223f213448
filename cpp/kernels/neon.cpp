#include "simd/neon-inl.h"

#include "kernels/table-inl.h"
