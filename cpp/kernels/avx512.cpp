#include "simd/avx512-inl.h"

#include "kernels/table-inl.h"
