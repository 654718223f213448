#include "core/view.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "core/parallel.h"

namespace batchnorm {
namespace {

// Rows of short planes fill vectors where plane by plane would end one at every plane; long planes need no column sums.
// Sums cross between 7 x 7 and 14 x 14. A map has no sums to close at the end of a plane, so it crosses earlier. Sums
// of a small batch cross there too: sums of columns are folded once, however few planes they add up. What is gathered
// fills vectors either way: rows then follow memory further, and a map writes them where they belong.
constexpr std::size_t kLongestInner = 128, kLongestInnerOfMap = 32;
constexpr std::size_t kLongestGathered = 256, kLongestGatheredOfMap = 1024;
constexpr std::size_t kSmallBatch = 8;

constexpr std::size_t kMostAxes = 64;  // as many as NumPy has

std::size_t Extent(const ArrayView& x, std::size_t axis) { return static_cast<std::size_t>(x.extents[axis]); }

// Joins neighbours that are one stretch of memory. An empty result stands for one element.
std::vector<Axis> Merge(const std::vector<Axis>& axes, std::ptrdiff_t unit) {
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

std::vector<Axis> AxesOf(const ArrayView& x, const std::vector<std::size_t>& which) {
  std::vector<Axis> axes;
  axes.reserve(which.size() + 1);
  for (std::size_t a : which) axes.push_back({Extent(x, a), x.strides[a]});
  return axes;
}

bool IsOneRun(const std::vector<Axis>& merged, std::size_t item) {
  return merged.size() == 1 && merged[0].stride == static_cast<std::ptrdiff_t>(item);
}

bool Aligned(const ArrayView& x, std::size_t item) {
  std::size_t misaligned = reinterpret_cast<std::uintptr_t>(x.data) % item;
  for (std::size_t a = 0; a < x.ndim; ++a) misaligned |= static_cast<std::size_t>(std::abs(x.strides[a])) % item;
  return misaligned == 0;
}

// The address of a place in the first `count` of nested axes, counted from 0; `index` takes where it is on each.
char* Find(const std::vector<Axis>& axes, std::size_t count, char* base, std::size_t place, std::size_t* index) {
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
    Stretch stretch{std::min(count, inner.extent - i), inner.stride};
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

// A sum that keeps what its additions lose (Knuth's two-sum).
struct KeptSum {
  double sum = 0, lost = 0;
  void Add(double v) {
    const double next = sum + v, of_v = next - sum;
    lost += (sum - (next - of_v)) + (v - of_v);
    sum = next;
  }
  // An infinite sum has lost NaN.
  double Total() const { return std::isfinite(sum) ? sum + lost : sum; }
};

template <class Element>
void AddRun(const char* p, std::ptrdiff_t stride, std::size_t n, KeptSum& to) {
  for (std::size_t i = 0; i < n; ++i, p += stride) {
    Element e;
    std::memcpy(&e, p, sizeof e);
    to.Add(static_cast<double>(e));
  }
}

// How many bytes of a run aren't 0: eight at a time, in eight counters of a byte each.
double TrueOfRun(const char* p, std::ptrdiff_t stride, std::size_t n) {
  constexpr std::uint64_t kLow7 = 0x7f7f7f7f7f7f7f7f, kOnes = 0x0101010101010101, kEven = 0x00ff00ff00ff00ff;
  constexpr std::size_t kMost = 255;  // what a byte counts to
  std::size_t i = 0;
  std::uint64_t total = 0;
  while (stride == 1 && i + sizeof(std::uint64_t) <= n) {
    const std::size_t words = std::min(kMost, (n - i) / sizeof(std::uint64_t));
    std::uint64_t counters = 0;
    for (std::size_t k = 0; k < words; ++k) {
      std::uint64_t w;
      std::memcpy(&w, p + i + k * sizeof w, sizeof w);
      counters += ((((w & kLow7) + kLow7) | w) >> 7) & kOnes;
    }
    const std::uint64_t pairs = (counters & kEven) + ((counters >> 8) & kEven);
    total += (pairs * 0x0001000100010001) >> 48;
    i += words * sizeof(std::uint64_t);
  }
  for (; i < n; ++i) total += p[static_cast<std::ptrdiff_t>(i) * stride] != 0;
  return static_cast<double>(total);
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

PositionSums::PositionSums(const ArrayView& array, const Layout& layout, Workers workers)
    : data_(static_cast<char*>(array.data)), dtype_(array.dtype), inner_(layout.inner) {
  std::vector<std::size_t> which = layout.position_axes;
  which.insert(which.end(), layout.inner_axes.begin(), layout.inner_axes.end());
  axes_ = Merge(AxesOf(array, which), static_cast<std::ptrdiff_t>(ItemSize(dtype_)));
  if (dtype_ != DType::kBool) return;       // sums of weights are rounded, and their differences would show it
  constexpr std::size_t kMostMarks = 4096;  // 32 KB
  constexpr std::size_t kLeastApart = 1024;
  constexpr std::size_t kTaskMarks = 64;
  const std::size_t places = layout.ValuesPerChannel();
  apart_ = std::max(kLeastApart, places / kMostMarks);
  const std::size_t marks = places / apart_;
  to_mark_.resize(marks + 1);
  ParallelFor((marks + kTaskMarks - 1) / kTaskMarks, workers, Order::kForward, [&](std::size_t task, Scratch&) {
    for (std::size_t k = task * kTaskMarks; k < std::min(marks, (task + 1) * kTaskMarks); ++k) {
      to_mark_[k + 1] = Sum(k * apart_, (k + 1) * apart_);
    }
  });
  for (std::size_t k = 0; k < marks; ++k) to_mark_[k + 1] += to_mark_[k];
}

double PositionSums::operator()(std::size_t first, std::size_t positions) const {
  const std::size_t begin = first * inner_, end = begin + positions * inner_;
  if (to_mark_.empty()) return Sum(begin, end);
  const std::size_t from = (begin + apart_ - 1) / apart_, to = end / apart_;
  if (from >= to) return Sum(begin, end);
  return Sum(begin, from * apart_) + (to_mark_[to] - to_mark_[from]) + Sum(to * apart_, end);
}

double PositionSums::Sum(std::size_t begin, std::size_t end) const {
  KeptSum sum;
  if (begin == end) return 0;
  WalkAxes(axes_, data_, begin, end - begin, [&](const char* p, const Stretch& stretch) {
    for (std::size_t r = 0; r < stretch.rows; ++r, p += stretch.row_stride) {
      if (dtype_ == DType::kBool) {
        sum.sum += TrueOfRun(p, stretch.stride, stretch.n);
      } else {
        VisitLane(dtype_, [&](auto zero) { AddRun<decltype(zero)>(p, stretch.stride, stretch.n, sum); });
      }
    }
  });
  return sum.Total();
}

template <class E>
Operand<E>::Operand(const ArrayView& array, const Layout& layout, const KernelTable& table)
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
      ahead_(AheadOf(positions_)) {
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

// The block in memory of its own, channel by channel if planar.
template <class E>
Tile<E> Operand<E>::Dense(const Block& block, E* data) const {
  return {data,           block.rows, block.cols,          static_cast<std::ptrdiff_t>(block.cols),
          Source::kCache, 0,          TileChannels(block), static_cast<std::ptrdiff_t>(block.positions)};
}

template <class E>
Tile<E> Operand<E>::ScratchTile(const Block& block, Scratch& scratch, Scratch::Slot slot) const {
  return Dense(block, scratch.Get<E>(slot, Elements(block)));
}

template <class E>
Tile<const E> Operand<E>::Read(const Block& block, Scratch& scratch, Scratch::Slot slot) const {
  Tile<E> tile;
  if (!Direct(block, &tile)) {
    const Keeping& keeping = block.keeping;
    E* data = scratch.Get<E>(slot, keeping.group > 0 ? keeping.total : Elements(block)) + keeping.place;
    tile = Dense(block, data);
    if (!keeping.again || scratch.Keeps(slot) != keeping.group) {
      Copy(block, tile.data);
      scratch.Keeps(slot) = keeping.again ? 0 : keeping.group;
    }
  }
  return ToRead(tile);
}

template <class E>
void Operand<E>::Copy(const Block& block, E* to) const {
  ForEachStretch(block, [&](const char* p, const Stretch& stretch) {
    gather_(p, stretch, ahead_, to);
    to += stretch.n * stretch.rows;
  });
}

template <class E>
void Operand<E>::Scatter(const Block& block, const E* from) const {
  ForEachStretch(block, [&](char* p, const Stretch& stretch) {
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
