// Half precisions and bytes in memory, float lanes in registers: as Load, Store and Stream of floats.
#pragma once

#include "simd/vector-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

BATCHNORM_INLINE U16 LoadBits(const std::uint16_t* p, All) {
  U16 v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
BATCHNORM_INLINE void StoreBits(U16 v, std::uint16_t* p, All) { __builtin_memcpy(p, &v, sizeof v); }

BATCHNORM_INLINE F32 Promote(U16 bits, Float16) { return PromoteFloat16(bits); }
BATCHNORM_INLINE F32 Promote(U16 bits, BFloat16) { return FromBFloat16<F32>(Widen(bits)); }
BATCHNORM_INLINE U16 Demote(F32 v, Float16) { return DemoteFloat16(v); }
BATCHNORM_INLINE U16 Demote(F32 v, BFloat16) { return Narrow(ToBFloat16<F32, U32>(v)); }

// NaNs as Store wants them.
BATCHNORM_INLINE F32 ShortNaNs(F32 v) { return ShortNaN<F32, U32>(v); }

// Not by way of a member: what is gathered may be off alignment.
template <class E>
BATCHNORM_INLINE const std::uint16_t* BitsOf(const E* p) {
  return reinterpret_cast<const std::uint16_t*>(p);
}
template <class E>
BATCHNORM_INLINE std::uint16_t* BitsOf(E* p) {
  return reinterpret_cast<std::uint16_t*>(p);
}

template <class E>
BATCHNORM_INLINE F32 LoadF32(const E* p, All) {
  return Promote(LoadBits(BitsOf(p), All{}), E{});
}
// Lanes beyond the count take `fill`; their memory isn't touched.
template <class E>
BATCHNORM_INLINE F32 LoadF32(const E* p, First lanes, F32 fill) {
  return Select(lanes, Promote(LoadBits(BitsOf(p), lanes), E{}), fill);
}

// The first kLanes<double>, then zeros. Bits that were stored one by one would wait for each other where they are
// loaded at once: hence LoadLowerBits, which every ISA has that has half precisions' kernels.
template <class E>
BATCHNORM_INLINE F32 LoadLowerF32(const E* p) {
  return Promote(LoadLowerBits(BitsOf(p)), E{});
}

template <class V, class E>
BATCHNORM_INLINE V LoadVector(const E* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

// Brain floats lie two by two in 32 bits, in the low and in the high half: both are a float after one operation, where
// a run has to be spread to twice its width first, and packed again.
template <class E>
constexpr bool kInPairs = false;
template <>
constexpr bool kInPairs<BFloat16> = true;
// Whether there is a Packed of them.
template <class E>
constexpr bool kPacks = kHalfPrecision<E>;

BATCHNORM_INLINE F32 LoadF32(const BFloat16* p, Evens) { return FromBFloat16<F32>(LoadVector<U32>(p)); }
BATCHNORM_INLINE F32 LoadF32(const BFloat16* p, Odds) { return BitsAs<F32>(LoadVector<U32>(p) & 0xffff0000u); }

// Two vectors of E, as they lie in memory. Stored at once they are whole lines, which is what streaming stores want.
template <class E>
struct Packed {
  F32 bits;
};
BATCHNORM_INLINE Packed<BFloat16> PackPairs(F32 evens, F32 odds) {
  return {BitsAs<F32>(ToBFloat16<F32, U32>(evens) | (RoundToBFloat16<F32, U32>(odds) & 0xffff0000u))};
}
BATCHNORM_INLINE Packed<BFloat16> PackRun(F32 first, F32 second, BFloat16) {
  return {BitsAs<F32>(UpperHalves(RoundToBFloat16<F32, U32>(first), RoundToBFloat16<F32, U32>(second)))};
}
BATCHNORM_INLINE Packed<Float16> PackRun(F32 first, F32 second, Float16) {
  return {BitsAs<F32>(Join(DemoteFloat16(first), DemoteFloat16(second)))};
}
template <class E>
BATCHNORM_INLINE void Store(Packed<E> v, E* p, All lanes) {
  Store(v.bits, reinterpret_cast<float*>(p), lanes);
}
// p is aligned to the vector of both.
template <class E>
BATCHNORM_INLINE void Stream(Packed<E> v, E* p) {
  Stream(v.bits, reinterpret_cast<float*>(p));
}

// 0 beyond the count.
// Lanes<double> values, as float64. Bits that were stored one by one would wait for each other where they are loaded at
// once: hence LoadLowerBits, which is every ISA's that has half precisions' kernels.
template <class E>
BATCHNORM_INLINE F64 LoadF64(const E* p, All) {
  return PromoteLowerTo(Promote(LoadLowerBits(BitsOf(p)), E{}));
}

template <class V, class E>
BATCHNORM_INLINE V LoadVector(const E* p, First lanes) {
  V v{};
  for (std::size_t i = 0; i < lanes.count; ++i) v[i] = p[i];
  return v;
}
// Bytes as integers of the size of T. Reads as many as a vector of floats has lanes, also for the fewer of doubles.
template <class T>
BATCHNORM_INLINE Vec<Flag<T>> LoadFlags(const std::uint8_t* p) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return WidenTo32(LoadVector<U8>(p));
  } else {
    return WidenTo64(LoadVector<U8>(p));
  }
}
BATCHNORM_INLINE F32 LoadF32(const std::uint8_t* p, All) { return PromoteBytes(LoadVector<U8>(p)); }
BATCHNORM_INLINE F32 LoadF32(const std::int8_t* p, All) { return PromoteBytes(LoadVector<I8>(p)); }
BATCHNORM_INLINE F32 LoadF32(const std::uint8_t* p, First lanes, F32 fill) {
  return Select(lanes, PromoteBytes(LoadVector<U8>(p, lanes)), fill);
}
BATCHNORM_INLINE F32 LoadF32(const std::int8_t* p, First lanes, F32 fill) {
  return Select(lanes, PromoteBytes(LoadVector<I8>(p, lanes)), fill);
}

// Bytes as words, of signed ones modulo 2^16.
BATCHNORM_INLINE Words LoadWords(const std::uint8_t* p, All) { return WidenBytes(LoadVector<UBytes>(p)); }
BATCHNORM_INLINE Words LoadWords(const std::int8_t* p, All) { return WidenBytes(LoadVector<IBytes>(p)); }
// 0 beyond the count.
BATCHNORM_INLINE Words LoadWords(const std::uint8_t* p, First lanes) {
  return WidenBytes(LoadVector<UBytes>(p, lanes));
}
BATCHNORM_INLINE Words LoadWords(const std::int8_t* p, First lanes) { return WidenBytes(LoadVector<IBytes>(p, lanes)); }

template <class Lanes>
BATCHNORM_INLINE void Store(F32 v, Float16* p, Lanes lanes) {
  StoreBits(Demote(v, Float16{}), BitsOf(p), lanes);
}
template <class Lanes>
BATCHNORM_INLINE void Store(F32 v, BFloat16* p, Lanes lanes) {
  StoreBits(Demote(v, BFloat16{}), BitsOf(p), lanes);
}
BATCHNORM_INLINE void Stream(F32 v, Float16* p) { StreamBits(Demote(v, Float16{}), BitsOf(p)); }
BATCHNORM_INLINE void Stream(F32 v, BFloat16* p) { StreamBits(Demote(v, BFloat16{}), BitsOf(p)); }

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
