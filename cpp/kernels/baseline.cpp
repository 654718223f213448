#if defined(__SSE2__) && defined(__GNUC__) && !defined(BATCHNORM_SCALAR)
#include "simd/sse2-inl.h"
#else
#include "simd/scalar-inl.h"
#endif

#include "kernels/table-inl.h"
