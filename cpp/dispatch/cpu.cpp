#include "dispatch/cpu.h"

#include <algorithm>

#include "simd/float_control.h"

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#include <cpuid.h>
#endif

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace batchnorm {

SubnormalMode::SubnormalMode(bool flush) : changed_(flush && CanFlushSubnormals()) {
  if (!changed_) return;
  before_ = ReadFloatControl();
  WriteFloatControl(before_ | kFlushSubnormals);
}

SubnormalMode::~SubnormalMode() {
  if (changed_) WriteFloatControl((ReadFloatControl() & ~kFlushSubnormals) | (before_ & kFlushSubnormals));
}

bool CanFlushSubnormals() { return kFlushSubnormals != 0; }

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)

CpuFeatures DetectCpu() {
  __builtin_cpu_init();
  CpuFeatures cpu;
  cpu.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  cpu.avx512 = cpu.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl");
  return cpu;
}

bool ReadsBesideStores() {
  __builtin_cpu_init();
  return __builtin_cpu_is("amd");
}

bool StreamsFast() {
  __builtin_cpu_init();
  unsigned int version = 0, other[3];
  if (!__builtin_cpu_is("intel") || !__get_cpuid(1, &version, &other[0], &other[1], &other[2])) return true;
  const unsigned int family = version >> 8 & 0xf, model = (version >> 4 & 0xf) | (version >> 12 & 0xf0);
  return family != 6 || model != 0x55;  // by which all of them go
}

#else

CpuFeatures DetectCpu() { return {}; }
bool ReadsBesideStores() { return false; }
bool StreamsFast() { return true; }

#endif

std::size_t SecondLevelCacheBytes() {
#if defined(_SC_LEVEL2_CACHE_SIZE)
  return static_cast<std::size_t>(std::max(0L, sysconf(_SC_LEVEL2_CACHE_SIZE)));
#else
  return 0;
#endif
}

std::size_t LastLevelCacheBytes() {
#if defined(_SC_LEVEL3_CACHE_SIZE)
  // A virtual machine with a few cores is shown the whole cache of its host, and shares it with the neighbours.
  constexpr long kMostPerCore = 8L << 20;
  const long l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
  if (l3 <= 0) return SecondLevelCacheBytes();
  return static_cast<std::size_t>(std::min(l3, kMostPerCore * std::max(1L, sysconf(_SC_NPROCESSORS_ONLN))));
#else
  return 0;
#endif
}

}  // namespace batchnorm
