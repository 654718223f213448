// Arrays that all channels of a call share: a mask, which tells what counts, or weights, which tell how much.
//
// Sums read a value that is masked as one that adds nothing, and outputs are 0 there; so whatever lies there, NaN
// included, shows nowhere, and kernels need not know.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "core/plan.h"
#include "dispatch/kernel_table.h"

namespace batchnorm {

// Its view has x's extents, and a stride of 0 along the channels.
template <class E>
class SharedOperand {
 public:
  SharedOperand(const ArrayView& array, const Layout& layout, const KernelTable& table)
      : operand_(array, layout, table), planar_(layout.walk == Walk::kPlanar) {}

  // The elements beside those of the block. Planar: rows that are channels are one row.
  Tile<const E> Read(const Block& block, Scratch& scratch) const {
    Block one = block;
    one.keeping = {};
    if (planar_) {
      one.channel = 0;
      if (block.channels > 1) one.channels = one.rows = 1;
    }
    const std::array<std::size_t, 3> wanted = {one.first, one.positions, one.channels};
    const Tile<E> kept = Operand<E>::ScratchTile(one, scratch, Scratch::kShared);
    Tile<const E> tile = {kept.data, kept.rows, kept.cols, kept.stride};
    if (scratch.Shared() != wanted) {
      tile = operand_.Read(one, scratch, Scratch::kShared);
      scratch.Shared() = tile.data == kept.data ? wanted : decltype(wanted){};
    }
    if (one.rows != block.rows) tile = {tile.data, block.rows, block.cols, 0};
    return tile;
  }

 private:
  Operand<E> operand_;
  bool planar_;
};

template <class E>
std::optional<SharedOperand<E>> SharedOperandOf(const ArrayView* array, const Layout& layout,
                                                const KernelTable& table) {
  if (!array) return std::nullopt;
  return SharedOperand<E>(*array, layout, table);
}

// Of a mask, which may be absent.
template <class E>
class Mask {
  using T = Lane<E>;

 public:
  Mask(const ArrayView* mask, const Layout& layout, const KernelTable& table)
      : operand_(SharedOperandOf<E>(mask, layout, table)) {}

  explicit operator bool() const { return operand_.has_value(); }

  // The tile, with `fill` (one value, or one per column), or 0, where it is masked.
  Tile<const E> Filled(const WalkKernels<E>& kernels, Tile<const E> tile, const T* fill, const Block& block,
                       Scratch& scratch, Scratch::Slot slot) const {
    if (!operand_) return tile;
    const Tile<E> to = Operand<E>::ScratchTile(block, scratch, slot);
    kernels.fill(tile, operand_->Read(block, scratch), fill, to);
    return {to.data, to.rows, to.cols, to.stride};
  }
  Tile<const E> Cleared(const WalkKernels<E>& kernels, Tile<const E> tile, const Block& block, Scratch& scratch,
                        Scratch::Slot slot) const {
    if (!operand_) return tile;
    const Tile<E> to = Operand<E>::ScratchTile(block, scratch, slot);
    kernels.clear[0](tile, operand_->Read(block, scratch), to);
    return {to.data, to.rows, to.cols, to.stride};
  }

  // Calls write(tile, store) so that in the end `out` has its values, and 0 where they are masked.
  template <class Write>
  void WriteCleared(const WalkKernels<E>& kernels, StoreKind store, const Block& block, Scratch& scratch,
                    Scratch::Slot slot, Tile<E> out, Write write) const {
    if (!operand_) return write(out, store);
    const Tile<E> all = Operand<E>::ScratchTile(block, scratch, slot);
    write(all, StoreKind::kPlain);
    kernels.clear[static_cast<std::size_t>(store)]({all.data, all.rows, all.cols, all.stride},
                                                   operand_->Read(block, scratch), out);
  }

 private:
  std::optional<SharedOperand<E>> operand_;
};

// How much the values of a block, or of a chunk, count: their number, or what a mask or weights make of it.
class Counts {
 public:
  Counts(const Plan& plan, const Layout& layout, const ArrayView* shared) : plan_(plan) {
    if (!shared) return;
    sums_.emplace(*shared, layout);
    chunks_.resize(plan.chunks());
    for (std::size_t k = 0; k < plan.chunks(); ++k) {
      const auto [first, positions] = plan.Positions(k);
      chunks_[k] = (*sums_)(first, positions);
    }
  }

  bool shared() const { return sums_.has_value(); }
  double In(const Block& block) const {
    return sums_ ? (*sums_)(block.first, block.positions) : static_cast<double>(block.positions * plan_.inner());
  }
  double InChunk(std::size_t chunk) const { return sums_ ? chunks_[chunk] : static_cast<double>(plan_.Values(chunk)); }

 private:
  const Plan& plan_;
  std::optional<PositionSums> sums_;
  std::vector<double> chunks_;
};

}  // namespace batchnorm
