#include "dispatch/cpu.h"

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace batchnorm {

CpuFeatures DetectCpu() {
  CpuFeatures cpu;
#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
  __builtin_cpu_init();
  cpu.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  cpu.avx512 = cpu.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl");
#endif
  return cpu;
}

namespace {

std::size_t SystemCacheBytes([[maybe_unused]] int level) {
#if defined(_SC_LEVEL2_CACHE_SIZE) && defined(_SC_LEVEL3_CACHE_SIZE)
  const long bytes = sysconf(level == 2 ? _SC_LEVEL2_CACHE_SIZE : _SC_LEVEL3_CACHE_SIZE);
  return bytes > 0 ? static_cast<std::size_t>(bytes) : 0;
#else
  return 0;
#endif
}

}  // namespace

std::size_t LastLevelCacheBytes() {
  const std::size_t l3 = SystemCacheBytes(3);
  return l3 ? l3 : SystemCacheBytes(2);
}

std::size_t CoreCacheBytes() {
  const std::size_t l2 = SystemCacheBytes(2);
  return l2 ? l2 : std::size_t{1} << 20;
}

}  // namespace batchnorm
