// The table of one ISA. A source file includes its simd header, then this.
#pragma once

#include "kernels/affine-inl.h"
#include "kernels/byte-sums-inl.h"
#include "kernels/extremes-inl.h"
#include "kernels/gather-inl.h"
#include "kernels/gradient-inl.h"
#include "kernels/moments-inl.h"
#include "kernels/move-inl.h"
#include "kernels/repeat-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

template <Walk W, class E>
constexpr WalkKernels<E> WalkTable() {
  using T = Lane<E>;
  WalkKernels<E> k = {};
  k.moments[0] = &Moments<W, E, T>;
  k.moments[1] = &Moments<W, E, double>;
  k.extremes = &Extremes<W, E>;
  k.affine[0] = &Affine<W, Fusion::kNone, E>;
  k.affine[1] = &Affine<W, Fusion::kActivation, E>;
  k.affine[2] = &Affine<W, Fusion::kResidual, E>;
  k.gradient_sums[0][0] = &GradientSums<W, Gate::kOpen, E, T>;
  k.gradient_sums[0][1] = &GradientSums<W, Gate::kOpen, E, double>;
  k.gradient_sums[1][0] = &GradientSums<W, Gate::kOfX, E, T>;
  k.gradient_sums[1][1] = &GradientSums<W, Gate::kOfX, E, double>;
  k.gradient_sums[2][0] = &GradientSums<W, Gate::kOfY, E, T>;
  k.gradient_sums[2][1] = &GradientSums<W, Gate::kOfY, E, double>;
  k.slope_sums[1] = &SlopeSums<W, Gate::kOfX, E>;
  k.slope_sums[2] = &SlopeSums<W, Gate::kOfY, E>;
  k.gradient[0] = &Gradient<W, Gate::kOpen, E>;
  k.gradient[1] = &Gradient<W, Gate::kOfX, E>;
  k.gradient[2] = &Gradient<W, Gate::kOfY, E>;
  k.gated[0] = &Gated<W, Gate::kOpen, E>;
  k.gated[1] = &Gated<W, Gate::kOfX, E>;
  k.gated[2] = &Gated<W, Gate::kOfY, E>;
  if constexpr (!kHalfPrecision<E>) k.combine = &Combine<W, E>;
  return k;
}

// In the order of DType.
constexpr Kernels<float> FloatTable() {
  return {{WalkTable<Walk::kPlanar, float>(), WalkTable<Walk::kRows, float>()},
          nullptr,
          {&Gather<float>, nullptr, &Gather<Float16>, &Gather<BFloat16>, &Gather<std::uint8_t>, &Gather<std::int8_t>,
           &Gather<std::uint16_t>, &Gather<std::int16_t>, nullptr, &GatherSigns},
          {&Scatter<float>, nullptr, &Scatter<Float16>, &Scatter<BFloat16>, nullptr, nullptr, nullptr, nullptr, nullptr,
           &ScatterSigns}};
}

// A type that stands for itself and for signs.
template <class E>
constexpr Kernels<E> TypeTable(DType dtype) {
  Kernels<E> k = {{WalkTable<Walk::kPlanar, E>(), WalkTable<Walk::kRows, E>()}, nullptr, {}, {}};
  k.gather[static_cast<std::size_t>(dtype)] = &Gather<E, E>;
  k.scatter[static_cast<std::size_t>(dtype)] = &Scatter<E, E>;
  k.gather[static_cast<std::size_t>(DType::kSign)] = &GatherSigns<E>;
  k.scatter[static_cast<std::size_t>(DType::kSign)] = &ScatterSigns<E>;
  return k;
}

template <class E>
constexpr Kernels<E> HalfTable([[maybe_unused]] DType dtype) {
  if constexpr (kHasHalfKernels) {
    return TypeTable<E>(dtype);
  } else {
    return {};
  }
}

template <class E>
constexpr Kernels<E> ByteTable(DType dtype) {
  Kernels<E> k = {};
  k.walk[0].sums = &SumBytes<Walk::kPlanar, E>;
  k.walk[1].sums = &SumBytes<Walk::kRows, E>;
  k.walk[0].extremes = &Extremes<Walk::kPlanar, E>;
  k.walk[1].extremes = &Extremes<Walk::kRows, E>;
  k.gather[static_cast<std::size_t>(dtype)] = &Gather<E, E>;
  return k;
}

// Masks are bytes, too.
constexpr Kernels<std::uint8_t> UnsignedByteTable() {
  Kernels<std::uint8_t> k = ByteTable<std::uint8_t>(DType::kUInt8);
  k.repeat = &Repeat<std::uint8_t>;
  return k;
}

// Weights are float64, and so are the sums of what they weigh, whatever its type.
constexpr Kernels<double> DoubleTable() {
  Kernels<double> k = TypeTable<double>(DType::kFloat64);
  k.repeat = &Repeat<double>;
  k.walk[0].weighted_moments = &WeightedMoments<Walk::kPlanar>;
  k.walk[1].weighted_moments = &WeightedMoments<Walk::kRows>;
  k.gather[static_cast<std::size_t>(DType::kFloat32)] = &Gather<float, double>;
  k.gather[static_cast<std::size_t>(DType::kFloat16)] = &Gather<Float16, double>;
  k.gather[static_cast<std::size_t>(DType::kBFloat16)] = &Gather<BFloat16, double>;
  k.gather[static_cast<std::size_t>(DType::kUInt8)] = &Gather<std::uint8_t, double>;
  k.gather[static_cast<std::size_t>(DType::kInt8)] = &Gather<std::int8_t, double>;
  k.gather[static_cast<std::size_t>(DType::kUInt16)] = &Gather<std::uint16_t, double>;
  k.gather[static_cast<std::size_t>(DType::kInt16)] = &Gather<std::int16_t, double>;
  return k;
}

constexpr MoveKernels MoveTable() { return {&Read1, &Read2, &Copy, &Read2Write1}; }

}  // namespace

#define BATCHNORM_STRING_(x) #x
#define BATCHNORM_STRING(x) BATCHNORM_STRING_(x)

extern const KernelTable kTable;
const KernelTable kTable = {BATCHNORM_STRING(BATCHNORM_ISA),
                            FloatTable(),
                            DoubleTable(),
                            kHasHalfKernels,
                            HalfTable<Float16>(DType::kFloat16),
                            HalfTable<BFloat16>(DType::kBFloat16),
                            UnsignedByteTable(),
                            ByteTable<std::int8_t>(DType::kInt8),
                            MoveTable(),
                            &StreamFence};

}  // namespace batchnorm::BATCHNORM_ISA
