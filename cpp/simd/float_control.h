// The register that controls a thread's arithmetic, and its bits that make subnormal numbers 0. For the library, not
// for the objects of an instruction set.
#pragma once

#include <cstdint>

#if defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace batchnorm {

#if defined(__SSE2__) || defined(_M_X64)
constexpr std::uint64_t kFlushSubnormals = 0x8040;  // flush to zero, denormals are zero
inline std::uint64_t ReadFloatControl() { return _mm_getcsr(); }
inline void WriteFloatControl(std::uint64_t value) { _mm_setcsr(static_cast<unsigned>(value)); }
#elif defined(__aarch64__) && defined(__GNUC__)
constexpr std::uint64_t kFlushSubnormals = std::uint64_t{1} << 24;  // FZ
inline std::uint64_t ReadFloatControl() {
  std::uint64_t value;
  __asm__ __volatile__("mrs %0, fpcr" : "=r"(value));
  return value;
}
inline void WriteFloatControl(std::uint64_t value) { __asm__ __volatile__("msr fpcr, %0" : : "r"(value)); }
#else
constexpr std::uint64_t kFlushSubnormals = 0;
inline std::uint64_t ReadFloatControl() { return 0; }
inline void WriteFloatControl(std::uint64_t) {}
#endif

}  // namespace batchnorm
