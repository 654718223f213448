// The table of one ISA. A source file includes its simd header, then this.
#pragma once

#include "kernels/affine-inl.h"
#include "kernels/gather-inl.h"
#include "kernels/gradient-inl.h"
#include "kernels/moments-inl.h"
#include "kernels/move-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

template <Walk W, class T>
constexpr WalkKernels<T> WalkTable() {
  return {
      {&Moments<W, T, T>, &Moments<W, T, double>},
      {&GradientSums<W, T, T>, &GradientSums<W, T, double>},
      {&Affine<W, StoreKind::kPlain, T>, &Affine<W, StoreKind::kStream, T>},
      {&Gradient<W, StoreKind::kPlain, T>, &Gradient<W, StoreKind::kStream, T>},
  };
}

template <class T>
constexpr Kernels<T> TypeTable() {
  return {{WalkTable<Walk::kPlanar, T>(), WalkTable<Walk::kRows, T>()}, &Gather<T>, &Scatter<T>};
}

constexpr MoveKernels MoveTable() {
  return {
      &Read1,
      &Read2,
      {&Copy<StoreKind::kPlain>, &Copy<StoreKind::kStream>},
      {&Read2Write1<StoreKind::kPlain>, &Read2Write1<StoreKind::kStream>},
  };
}

}  // namespace

#define BATCHNORM_STRING_(x) #x
#define BATCHNORM_STRING(x) BATCHNORM_STRING_(x)

extern const KernelTable kTable;
const KernelTable kTable = {BATCHNORM_STRING(BATCHNORM_ISA), TypeTable<float>(), TypeTable<double>(), MoveTable(),
                            &StreamFence};

}  // namespace batchnorm::BATCHNORM_ISA
