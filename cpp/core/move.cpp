#include "core/move.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "core/parallel.h"
#include "dispatch/dispatch.h"

namespace batchnorm {

double MoveBytes(MoveKind kind, StoreKind store, const void* a_bytes, const void* b_bytes, void* out_bytes,
                 std::size_t bytes, int threads) {
  constexpr std::size_t kPart = std::size_t{1} << 18;  // floats: 1 MB, so that workers balance
  const KernelTable& table = ActiveKernels();
  const MoveKernels& kernels = table.move;
  const std::size_t n = bytes / sizeof(float);
  const auto* a = static_cast<const float*>(a_bytes);
  const auto* b = static_cast<const float*>(b_bytes);
  auto* out = static_cast<float*>(out_bytes);
  std::atomic<float> total{0};
  const auto move = [&](std::size_t task, Scratch&) {
    const std::size_t i = task * kPart, length = std::min(kPart, n - i);
    float sum = 0;
    switch (kind) {
      case MoveKind::kRead1:
        sum = kernels.read1(a + i, length);
        break;
      case MoveKind::kCopy:
        kernels.copy(a + i, out + i, length, store);
        break;
      case MoveKind::kRead2:
        sum = kernels.read2(a + i, b + i, length);
        break;
      case MoveKind::kRead2Write1:
        kernels.read2write1(a + i, b + i, out + i, length, store);
        break;
    }
    table.fence();
    total = sum;  // any part's sum shows that the reading took place
  };
  RunSteps({{(n + kPart - 1) / kPart, Order::kForward, move}}, {threads});
  return static_cast<double>(total);
}

void CopyBytes(const void* from, void* to, std::size_t bytes, Workers workers) {
  constexpr std::size_t kBytes = std::size_t{1} << 18;  // of a task, longer than waking a thread
  const auto copy = [&](std::size_t task, Scratch&) {
    const std::size_t first = task * kBytes;
    std::memcpy(static_cast<char*>(to) + first, static_cast<const char*>(from) + first,
                std::min(kBytes, bytes - first));
  };
  RunSteps({{(bytes + kBytes - 1) / kBytes, Order::kForward, copy}}, workers);
}

}  // namespace batchnorm
