// The parts of a batch that are normalized apart (ghost batch normalization).
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "core/types.h"

namespace batchnorm {

// Cuts arrays of one shape along the batch axis, the first that isn't the channels'. Parts are of ceil(N / groups)
// samples, the last one smaller; so there may be fewer than were asked for.
class BatchSlices {
 public:
  BatchSlices(const ArrayView& x, std::size_t channel_axis, std::size_t groups) : axis_(channel_axis == 0 ? 1 : 0) {
    if (groups < 2) return;  // the whole, as it is
    const std::ptrdiff_t samples = x.extents[axis_], wanted = static_cast<std::ptrdiff_t>(groups);
    step_ = std::max<std::ptrdiff_t>(1, samples / wanted + (samples % wanted != 0));
    for (std::ptrdiff_t first = 0; first == 0 || first < samples; first += step_) {
      extents_.emplace_back(x.extents, x.extents + x.ndim);
      extents_.back()[axis_] = std::min(step_, samples - first);
    }
  }
  BatchSlices(const BatchSlices&) = delete;

  std::size_t size() const { return std::max<std::size_t>(1, extents_.size()); }

  // As long as this object lives. Addresses of signs count bits, and so do their strides.
  ArrayView Of(const ArrayView& array, std::size_t part) const {
    ArrayView view = array;
    if (extents_.empty()) return view;
    view.extents = extents_[part].data();
    const std::ptrdiff_t offset = static_cast<std::ptrdiff_t>(part) * step_ * array.strides[axis_];
    view.data =
        reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(array.data) + static_cast<std::uintptr_t>(offset));
    return view;
  }
  std::optional<ArrayView> Of(const ArrayView* array, std::size_t part) const {
    if (!array) return std::nullopt;
    return Of(*array, part);
  }

 private:
  std::size_t axis_;
  std::ptrdiff_t step_ = 0;
  std::vector<std::vector<std::ptrdiff_t>> extents_;
};

inline const ArrayView* PointerTo(const std::optional<ArrayView>& view) { return view ? &*view : nullptr; }

}  // namespace batchnorm
