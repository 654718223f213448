#include "simd/avx2-inl.h"

#include "kernels/table-inl.h"
