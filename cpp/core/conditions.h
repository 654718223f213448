// Conditions that compilers make vectors of: bits, where of bools they make branches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace batchnorm {

// 0 where it doesn't hold. Combined by & and |.
using Condition = std::uint64_t;

inline Condition When(bool holds) {
  const double chosen = holds ? 1.0 : 0.0;
  Condition bits;
  std::memcpy(&bits, &chosen, sizeof bits);
  return bits;
}

inline Condition IsFinite(double v) { return When(v - v == 0); }
inline Condition IsNotFinite(double v) { return When(!(v - v == 0)); }

// Whether holds(i) for any i below n.
template <class Holds>
bool Any(std::size_t n, Holds holds) {
  Condition any = 0;
  for (std::size_t i = 0; i < n; ++i) any |= holds(i);
  return any != 0;
}

}  // namespace batchnorm
