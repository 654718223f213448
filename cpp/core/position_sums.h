// How many places count, or what they weigh.
#pragma once

#include <cstddef>
#include <vector>

#include "core/parallel.h"
#include "core/view.h"

namespace batchnorm {

// Sums over the values of a block of an array that all channels share, by one stride of 0: how many of its bools are
// true, or what weights (float32 or float64) add up to.
class PositionSums {
 public:
  // Bools are counted at once, by the workers, up to marks at one distance: of a block only its ends are counted then.
  PositionSums(const ArrayView& array, const Layout& layout, Workers workers);
  double operator()(std::size_t first, std::size_t positions) const;

 private:
  double Sum(std::size_t begin, std::size_t end) const;  // of places

  char* data_;
  DType dtype_;
  std::size_t inner_;
  std::vector<Axis> axes_;
  std::size_t apart_ = 0;        // places from one mark to the next
  std::vector<double> to_mark_;  // the sum of all places before it
};

}  // namespace batchnorm
