// Nested axes of memory: merged where neighbours are one stretch, and walked.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "core/types.h"
#include "dispatch/kernel_table.h"

namespace batchnorm {

struct Axis {
  std::size_t extent;
  std::ptrdiff_t stride;  // bytes
};

constexpr std::size_t kMostAxes = 64;  // as many as NumPy has

inline std::size_t Extent(const ArrayView& x, std::size_t axis) { return static_cast<std::size_t>(x.extents[axis]); }

// Joins neighbours that are one stretch of memory. An empty result stands for one element.
inline std::vector<Axis> Merge(const std::vector<Axis>& axes, std::ptrdiff_t unit) {
  std::vector<Axis> merged;
  for (const Axis& a : axes) {
    if (a.extent == 1) continue;
    if (!merged.empty() && merged.back().stride == static_cast<std::ptrdiff_t>(a.extent) * a.stride) {
      merged.back() = {merged.back().extent * a.extent, a.stride};
    } else {
      merged.push_back(a);
    }
  }
  if (merged.empty()) merged.push_back({1, unit});
  return merged;
}

inline std::vector<Axis> AxesOf(const ArrayView& x, const std::vector<std::size_t>& which) {
  std::vector<Axis> axes;
  axes.reserve(which.size() + 1);
  for (std::size_t a : which) axes.push_back({Extent(x, a), x.strides[a]});
  return axes;
}

// The address of a place in the first `count` of nested axes, counted from 0; `index` takes where it is on each.
inline char* Find(const std::vector<Axis>& axes, std::size_t count, char* base, std::size_t place, std::size_t* index) {
  for (std::size_t d = count; d-- > 0; place /= axes[d].extent) {
    index[d] = place % axes[d].extent;
    base += static_cast<std::ptrdiff_t>(index[d]) * axes[d].stride;
  }
  return base;
}

// Calls body(address, stretch) for the elements [begin, begin + count) of nested axes, in their order: as many whole
// rows at a time as lie at one stride, and parts of rows.
template <class Body>
void WalkAxes(const std::vector<Axis>& axes, char* base, std::size_t begin, std::size_t count, Body body) {
  const Axis inner = axes.back();
  const std::size_t outer_axes = axes.size() - 1;
  std::array<std::size_t, kMostAxes> index;
  std::size_t i = begin % inner.extent;
  char* p = Find(axes, outer_axes, base, begin / inner.extent, index.data());
  while (count > 0) {
    StridedRows stretch{std::min(count, inner.extent - i), inner.stride};
    if (stretch.n == inner.extent && outer_axes > 0) {
      const Axis& rows = axes[outer_axes - 1];
      stretch.rows = std::min(count / stretch.n, rows.extent - index[outer_axes - 1]);
      stretch.row_stride = rows.stride;
    }
    body(p + static_cast<std::ptrdiff_t>(i) * inner.stride, stretch);
    count -= stretch.n * stretch.rows;
    i = 0;
    std::size_t steps = stretch.rows;
    for (std::size_t d = outer_axes; d-- > 0; steps = 1) {  // as an odometer: short runs leave no time for divisions
      p += static_cast<std::ptrdiff_t>(steps) * axes[d].stride;
      index[d] += steps;
      if (index[d] < axes[d].extent) break;
      p -= static_cast<std::ptrdiff_t>(axes[d].extent) * axes[d].stride;
      index[d] = 0;
    }
  }
}

}  // namespace batchnorm
