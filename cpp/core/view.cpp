#include "core/view.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace batchnorm {
namespace {

// Rows of short planes fill vectors where plane by plane would end one at every plane; long planes need no column sums.
// Sums cross between 7 x 7 and 14 x 14. A map has no sums to close at the end of a plane, so it crosses earlier. Sums
// of a small batch cross there too: sums of columns are folded once, however few planes they add up. What is gathered
// fills vectors either way: rows then follow memory further, and a map writes them where they belong.
constexpr std::size_t kLongestInner = 128, kLongestInnerOfMap = 32;
// Measured: sums lose beyond 16 x 16, maps beyond 28 x 28.
constexpr std::size_t kLongestGathered = 256, kLongestGatheredOfMap = 1024;
constexpr std::size_t kSmallBatch = 8;

bool IsOneRun(const std::vector<Axis>& merged, std::size_t item) {
  return merged.size() == 1 && merged[0].stride == static_cast<std::ptrdiff_t>(item);
}

bool Aligned(const ArrayView& x, std::size_t item) {
  std::size_t misaligned = reinterpret_cast<std::uintptr_t>(x.data) % item;
  for (std::size_t a = 0; a < x.ndim; ++a) misaligned |= static_cast<std::size_t>(std::abs(x.strides[a])) % item;
  return misaligned == 0;
}

// How far ahead of a run to ask for others: kAheadBytes or more, but whole steps to runs of the same kind, so that what
// lies between them isn't asked for.
std::ptrdiff_t AheadOf(const std::vector<Axis>& axes) {
  constexpr std::ptrdiff_t kAheadBytes = 16384;  // Note [Prefetch]
  const std::ptrdiff_t step = axes.size() < 2 ? 0 : axes[axes.size() - 2].stride;
  return step == 0 ? kAheadBytes : (kAheadBytes / std::abs(step) + 1) * step;
}

}  // namespace

std::vector<std::size_t> MemoryOrder(const ArrayView& x) {
  std::vector<std::size_t> order;
  order.reserve(x.ndim);
  for (std::size_t a = 0; a < x.ndim; ++a) {
    // Insertion keeps the order of axes that strides don't tell apart.
    std::size_t place = order.size();
    for (std::size_t i = order.size(); i-- > 0;) {
      const std::ptrdiff_t outer = std::abs(x.strides[order[i]]), mine = std::abs(x.strides[a]);
      if (outer == 0 || mine == 0) continue;
      if (outer >= mine) break;
      place = i;
    }
    order.insert(order.begin() + static_cast<std::ptrdiff_t>(place), a);
  }
  return order;
}

Layout LayoutOf(const ArrayView& x, std::size_t channel_axis, Purpose purpose) {
  Layout layout;
  layout.channel_axis = channel_axis;
  layout.channels = Extent(x, channel_axis);
  bool inside = false;
  for (std::size_t a : MemoryOrder(x)) {
    if (a == channel_axis) {
      inside = true;
    } else if (Extent(x, a) != 1) {
      (inside ? layout.inner_axes : layout.position_axes).push_back(a);
      (inside ? layout.inner : layout.positions) *= Extent(x, a);
    }
  }
  std::vector<Axis> columns = AxesOf(x, {channel_axis});
  for (const Axis& a : AxesOf(x, layout.inner_axes)) columns.push_back(a);
  const std::size_t item = ItemSize(x.dtype);
  const bool channel_innermost = layout.inner_axes.empty();
  const bool long_sums = purpose == Purpose::kSums && layout.positions > kSmallBatch;
  const Axis in_plane = Merge(AxesOf(x, layout.inner_axes), static_cast<std::ptrdiff_t>(item)).back();
  const bool gathered = in_plane.stride != static_cast<std::ptrdiff_t>(item) || in_plane.extent < kShortRun;
  const bool one_run = IsOneRun(Merge(columns, 0), item);
  const std::size_t longest = one_run ? (long_sums ? kLongestInner : kLongestInnerOfMap)
                                      : (long_sums ? kLongestGathered : kLongestGatheredOfMap);
  const bool short_planes = layout.inner < longest && (one_run || gathered);
  if (layout.channels > 1 && (channel_innermost || short_planes)) {
    layout.walk = Walk::kRows;
  } else {
    for (std::size_t a : layout.inner_axes) layout.position_axes.push_back(a);
    layout.positions *= layout.inner;
    layout.plane = layout.inner;
    layout.inner_axes.clear();
    layout.inner = 1;
  }
  return layout;
}

template <class E>
Operand<E>::Operand(const ArrayView& array, const Layout& layout, const KernelTable& table, Storing storing)
    : gather_(KernelsOf(table, E{}).gather[static_cast<std::size_t>(array.dtype)]),
      scatter_(KernelsOf(table, E{}).scatter[static_cast<std::size_t>(array.dtype)]),
      data_(static_cast<char*>(array.data)),
      item_(batchnorm::ItemSize(array.dtype)),
      converts_(array.dtype != kDTypeOf<E>),
      walk_(layout.walk),
      inner_(layout.inner),
      row_elements_(walk_ == Walk::kRows ? layout.channels * layout.inner : 1),
      row_bytes_(static_cast<std::ptrdiff_t>(row_elements_ * item_)),
      channel_stride_(array.strides[layout.channel_axis]),
      aligned_(Aligned(array, item_)),
      one_run_(true),
      positions_(Merge(AxesOf(array, layout.position_axes), row_bytes_)),
      ahead_(AheadOf(positions_)),
      storing_(storing) {
  if (walk_ == Walk::kPlanar) return;
  std::vector<Axis> columns = {{layout.channels, channel_stride_}};
  for (const Axis& a : AxesOf(array, layout.inner_axes)) columns.push_back(a);
  one_run_ = IsOneRun(Merge(columns, item_), item_);
  elements_ = AxesOf(array, layout.position_axes);
  elements_.insert(elements_.end(), columns.begin(), columns.end());
  elements_ = Merge(elements_, item_);
  ahead_ = AheadOf(elements_);
}

template <class E>
std::size_t Operand<E>::Run() const {
  return one_run_ && (walk_ == Walk::kRows || DensePositions()) ? positions_.back().extent : 0;
}

template <class E>
bool Operand<E>::Direct(const Block& block, Tile<E>* tile) const {
  const std::size_t run = Run();
  if (run == 0 || !aligned_ || converts_) return false;
  const std::size_t start = block.first % run;
  const bool within = start + block.positions <= run;
  constexpr std::ptrdiff_t kItem = sizeof(E);
  std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(block.cols);
  if (walk_ == Walk::kRows) {
    if (!within) return false;
    const bool position_per_row = block.rows == block.positions;
    if (position_per_row) {
      stride = positions_.back().stride / kItem;
    } else if (!DensePositions() || block.channels * inner_ != row_elements_) {
      return false;
    }
  } else if (block.RowsAreChannels()) {
    if (!within) return false;
    stride = channel_stride_ / kItem;
  } else if (start == 0 && block.cols == run && positions_.size() > 1) {
    // Whole runs, one per row, at one stride.
    const Axis& outer = positions_[positions_.size() - 2];
    if (block.first / run % outer.extent + block.rows > outer.extent) return false;
    stride = outer.stride / kItem;
  } else if (!within) {
    return false;
  }
  std::array<std::size_t, kMostAxes> index;
  char* p = Find(positions_, positions_.size(), data_, block.first, index.data());
  p += static_cast<std::ptrdiff_t>(block.channel) * channel_stride_;
  *tile = {reinterpret_cast<E*>(p),
           block.rows,
           block.cols,
           stride,
           block.source,
           static_cast<std::ptrdiff_t>(block.next_channels) * channel_stride_,
           TileChannels(block),
           channel_stride_ / kItem};
  return true;
}

template <class E>
template <class Body>
void Operand<E>::ForEachStretch(const Block& block, Body body) const {
  if (walk_ == Walk::kPlanar) {
    for (std::size_t c = block.channel; c < block.channel + block.channels; ++c) {
      WalkAxes(positions_, data_ + static_cast<std::ptrdiff_t>(c) * channel_stride_, block.first, block.positions,
               body);
    }
    return;
  }
  const std::size_t cols = block.channels * inner_;
  if (cols == row_elements_) {
    WalkAxes(elements_, data_, block.first * cols, block.positions * cols, body);
    return;
  }
  for (std::size_t p = block.first; p < block.first + block.positions; ++p) {
    WalkAxes(elements_, data_, p * row_elements_ + block.channel * inner_, cols, body);
  }
}

// The block in memory of its own, channel by channel if planar, `apart` elements from one to the next.
template <class E>
Tile<E> Operand<E>::Dense(const Block& block, E* data, std::size_t apart) const {
  return {data,           block.rows, block.cols,          static_cast<std::ptrdiff_t>(block.cols),
          Source::kCache, 0,          TileChannels(block), static_cast<std::ptrdiff_t>(apart)};
}

template <class E>
Tile<E> Operand<E>::ScratchTile(const Block& block, Scratch& scratch, Scratch::Slot slot) const {
  return Dense(block, scratch.Get<E>(slot, Elements(block)), block.positions);
}

template <class E>
Tile<const E> Operand<E>::Read(const Block& block, Scratch& scratch, Scratch::Slot slot) const {
  Tile<E> tile;
  if (!Direct(block, &tile)) {
    const Keeping& keeping = block.keeping;
    tile = keeping.group > 0 ? Dense(block, scratch.Get<E>(slot, keeping.total) + keeping.place, keeping.apart)
                             : ScratchTile(block, scratch, slot);
    if (!keeping.again || scratch.Keeps(slot) != keeping.group) {
      Copy(block, tile);
      scratch.Keeps(slot) = keeping.again ? 0 : keeping.group;
    }
  }
  return ToRead(tile);
}

template <class E>
void Operand<E>::Copy(const Block& block, E* to) const {
  ForEachStretch(block, [&](const char* p, const StridedRows& stretch) {
    gather_(p, stretch, ahead_, to);
    to += stretch.n * stretch.rows;
  });
}

template <class E>
void Operand<E>::Copy(const Block& block, const Tile<E>& to) const {
  Block one = block;
  one.channels /= to.channels;
  for (E* data = to.data; one.channel < block.channel + block.channels; one.channel += one.channels) {
    Copy(one, data);
    data += to.channel_stride;
  }
}

template <class E>
void Operand<E>::Scatter(const Block& block, const E* from) const {
  ForEachStretch(block, [&](char* p, const StridedRows& stretch) {
    scatter_(from, p, stretch);
    from += stretch.n * stretch.rows;
  });
}

template class Operand<float>;
template class Operand<double>;
template class Operand<Float16>;
template class Operand<BFloat16>;
template class Operand<std::uint8_t>;
template class Operand<std::int8_t>;

}  // namespace batchnorm
