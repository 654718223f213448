// Arrays that all channels of a call share: a mask, which tells what counts, or weights, which tell how much.
//
// A value that is masked adds nothing to a sum, and outputs are 0 there; so whatever lies there, NaN included, shows
// nowhere.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/plan.h"
#include "core/position_sums.h"
#include "dispatch/kernel_table.h"

namespace batchnorm {

inline Company CompanyOf(const ArrayView* shared) {
  return !shared ? Company::kNone : shared->dtype == DType::kBool ? Company::kMask : Company::kWeights;
}

// Its view has x's extents, and a stride of 0 along the channels.
template <class E>
class SharedOperand {
 public:
  SharedOperand(const ArrayView& array, const Layout& layout, const KernelTable& table)
      : places_(PlacesOf(layout)),
        operand_(array, places_, table),
        repeat_(KernelsOf(table, E{}).repeat),
        planar_(layout.walk == Walk::kPlanar),
        inner_(layout.inner) {}

  // The elements beside those of the block. Planar: rows that are channels are one row, which begins anew after its end
  // for kMostLanes elements, so that vectors may reach from one channel into the next. Rows: one value each, where a
  // row is a position.
  Tile<const E> Read(const Block& block, Scratch& scratch) const {
    const bool one_each = !planar_ && inner_ == 1 && block.rows == block.positions;
    const std::array<std::size_t, 3> wanted = {block.first, block.positions, planar_ || one_each ? 1 : block.channels};
    E* data = scratch.Get<E>(Scratch::kShared, wanted[1] * inner_ * wanted[2] + kMostLanes);
    if (scratch.Shared() != wanted) {
      const std::size_t n = block.positions * inner_;
      const Block places{block.first * inner_, n, 0, 1, 1, n, Source::kCache, 0};
      if (planar_ || one_each) {
        operand_.Copy(places, data);
        for (std::size_t i = 0; i < kMostLanes; ++i) data[n + i] = data[i];
      } else {
        Repeat(operand_.Read(places, scratch, Scratch::kPlaces).data, block, data);
      }
      scratch.Shared() = wanted;
    }
    if (one_each) return {data, block.rows, 1, 1};
    const bool one_row = planar_ && block.RowsAreChannels();
    return {data, block.rows, block.cols, one_row ? 0 : static_cast<std::ptrdiff_t>(block.cols)};
  }

 private:
  // All places of a channel, as if there were but one.
  static Layout PlacesOf(const Layout& layout) {
    Layout places = layout;
    places.walk = Walk::kPlanar;
    places.position_axes.insert(places.position_axes.end(), layout.inner_axes.begin(), layout.inner_axes.end());
    places.positions *= layout.inner;
    places.inner_axes.clear();
    places.inner = places.channels = 1;
    return places;
  }

  // Each place for every channel.
  void Repeat(const E* once, const Block& block, E* to) const {
    if (inner_ == 1) return repeat_(once, block.positions, block.channels, to);
    const std::size_t columns = block.channels * inner_;
    for (std::size_t i = 0; i < block.positions; ++i, once += inner_, to += columns) {
      std::copy_n(once, inner_, to);
      // Runs may be short: what is there is copied again, in ever longer pieces.
      for (std::size_t n = inner_; n < columns; n *= 2) std::copy_n(to, std::min(n, columns - n), to + n);
    }
  }

  Layout places_;
  Operand<E> operand_;
  void (*repeat_)(const E* once, std::size_t n, std::size_t each, E* to);
  bool planar_;
  std::size_t inner_;
};

template <class E>
std::optional<SharedOperand<E>> SharedOperandOf(const ArrayView* array, const Layout& layout,
                                                const KernelTable& table) {
  if (!array) return std::nullopt;
  return SharedOperand<E>(*array, layout, table);
}

// A mask, which may be absent.
class Mask {
 public:
  Mask(const ArrayView* mask, const Layout& layout, const KernelTable& table, Workers workers) : inner_(layout.inner) {
    if (!mask) return;
    ArrayView bytes = *mask;
    bytes.dtype = DType::kUInt8;
    operand_.emplace(bytes, layout, table);
    sums_.emplace(*mask, layout, workers);
  }

  // How much counts where; null if all does.
  const PositionSums* sums() const { return sums_ ? &*sums_ : nullptr; }

  // As kernels take it: none where all of the block counts.
  MaskTile Read(const Block& block, Scratch& scratch) const {
    if (!operand_ || (All(block, std::min(block.positions, kProbe)) && All(block, block.positions))) return {};
    return operand_->Read(block, scratch);
  }

 private:
  static constexpr std::size_t kProbe = 64;  // positions that mostly tell

  bool All(const Block& block, std::size_t positions) const {
    return (*sums_)(block.first, positions) == static_cast<double>(positions * inner_);
  }

  std::optional<SharedOperand<std::uint8_t>> operand_;
  std::optional<PositionSums> sums_;
  std::size_t inner_;
};

// How much the values of a block, or of a chunk, count: their number, or what a mask or weights make of it.
class Counts {
 public:
  // `sums` are of what is shared, null if nothing is.
  Counts(const Plan& plan, const PositionSums* sums) : plan_(plan), sums_(sums) {
    if (!sums_) return;
    chunks_.resize(plan.chunks());
    for (std::size_t k = 0; k < plan.chunks(); ++k) {
      const auto [first, positions] = plan.Positions(k);
      chunks_[k] = (*sums_)(first, positions);
    }
  }

  bool shared() const { return sums_ != nullptr; }
  double In(const Block& block) const {
    return sums_ ? (*sums_)(block.first, block.positions) : static_cast<double>(block.positions * plan_.inner());
  }
  double InChunk(std::size_t chunk) const { return sums_ ? chunks_[chunk] : static_cast<double>(plan_.Values(chunk)); }

 private:
  const Plan& plan_;
  const PositionSums* sums_;
  std::vector<double> chunks_;
};

}  // namespace batchnorm
