// Moving bytes and nothing else, by the same threads and stores as the jobs: what the machine allows.
#pragma once

#include <cstddef>

#include "core/types.h"

namespace batchnorm {

enum class MoveKind { kRead1, kCopy, kRead2, kRead2Write1 };

// Reads a (and b), writes out, each of `bytes` dense bytes, a multiple of 4. Returns a sum of what was read.
double MoveBytes(MoveKind kind, StoreKind store, const void* a, const void* b, void* out, std::size_t bytes,
                 int threads);

// to = from, by the workers; no overlap.
void CopyBytes(const void* from, void* to, std::size_t bytes, Workers workers);

}  // namespace batchnorm
