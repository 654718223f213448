// Seeing an array as [positions, channels, inner], in the order in which x lies in memory.
//
// A *position* is one place of the batch and space, an *inner* place is one that lies closer together in memory than
// the channels do. Which axes are which is decided by x alone (Layout); every operand of a call is then seen the same
// way (Operand), and reads or writes tiles: directly where its memory allows, through scratch memory where it doesn't.
//
// Planar: a channel's run is long, positions are single elements of one channel, `inner` is 1. Rows: the channel
// changes along the run, a position is a row of channels * inner elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/axes.h"
#include "core/scratch.h"
#include "core/types.h"

namespace batchnorm {

// The axes of x, from the outermost in memory to the innermost. Axes that x repeats (stride 0) keep their place.
std::vector<std::size_t> MemoryOrder(const ArrayView& x);

struct Layout {
  Walk walk = Walk::kPlanar;
  std::size_t channel_axis = 0;
  std::vector<std::size_t> position_axes;  // outermost first
  std::vector<std::size_t> inner_axes;     // kRows only
  std::size_t positions = 1;
  std::size_t channels = 1;
  std::size_t inner = 1;
  std::size_t plane = 1;  // kPlanar: positions that lie closer together than the channels do

  std::size_t ValuesPerChannel() const { return positions * inner; }
  std::size_t Values() const { return ValuesPerChannel() * channels; }
};

// Shorter runs of one channel are gathered: a kernel call for each would cost more.
constexpr std::size_t kShortRun = 32;

// What is done with the values: summed, and then read again; or mapped alone.
enum class Purpose { kSums, kMap };

Layout LayoutOf(const ArrayView& x, std::size_t channel_axis, Purpose purpose);

// Note [Kept tiles]: where a group is summed and mapped by one thread, what was gathered or converted for the sums is
// kept for the map. Strided and mixed arrays are then read from memory once, and converted once.
struct Keeping {
  std::size_t group = 0;  // counted from 1; 0 if nothing is kept
  bool again = false;     // what is kept is to be used
  std::size_t place = 0;  // of the block's first element among those of the group
  std::size_t apart = 0;  // planar: elements from one channel to the next
  std::size_t total = 0;  // elements of the group
};

// What a kernel is called on: `positions` positions from `first` on, of `channels` channels from `channel` on, shown to
// it as rows x cols. Planar: rows * cols = positions, of every channel, or one channel per row. Rows: cols covers whole
// positions.
struct Block {
  std::size_t first;
  std::size_t positions;
  std::size_t channel;
  std::size_t channels;
  std::size_t rows;
  std::size_t cols;
  Source source;              // of its elements, where a kernel reads them directly
  std::size_t next_channels;  // Source::kNext
  Keeping keeping = {};

  // Planar.
  bool RowsAreChannels() const { return rows * cols != positions; }
};

template <class E>
Tile<const E> ToRead(const Tile<E>& tile) {
  return {tile.data, tile.rows, tile.cols, tile.stride, tile.source, tile.next, tile.channels, tile.channel_stride};
}

// Of a tile of several channels, one.
template <class E>
Tile<E> ChannelOf(const Tile<E>& tile, std::size_t channel) {
  Tile<E> one = tile;
  one.data += static_cast<std::ptrdiff_t>(channel) * tile.channel_stride;
  one.channels = 1;
  return one;
}

// How a call writes an output, all of it.
struct Storing {
  StoreKind kind = StoreKind::kPlain;  // past the caches where plain stores would push out what is still to be used
  Source target = Source::kCache;      // where the output lies, whatever is read meanwhile
};

// An array as kernels of E read or write it. Another element type than E is converted tile by tile, in scratch memory.
template <class E>
class Operand {
 public:
  Operand(const ArrayView& array, const Layout& layout, const KernelTable& table, Storing storing = {});

  StoreKind store() const { return storing_.kind; }
  bool Converts() const { return converts_; }
  std::size_t ItemSize() const { return item_; }  // of an element in memory

  // The block's elements. They stay valid until the slot is used again.
  Tile<const E> Read(const Block& block, Scratch& scratch, Scratch::Slot slot) const;

  // The block's elements, one after the other, into memory for so many.
  void Copy(const Block& block, E* to) const;

  // The same into a tile, whose channels may lie apart.
  void Copy(const Block& block, const Tile<E>& to) const;

  Tile<E> ScratchTile(const Block& block, Scratch& scratch, Scratch::Slot slot) const;

  // Calls write(tile), which fills it: the block's elements themselves, or scratch memory, which is read back at once
  // and scattered to them.
  template <class Writer>
  void Write(const Block& block, Scratch& scratch, Scratch::Slot slot, Writer write) const {
    Tile<E> tile;
    if (Direct(block, &tile)) {
      tile.source = storing_.target;
      tile.store = storing_.kind;
      return write(tile);
    }
    tile = ScratchTile(block, scratch, slot);
    write(tile);
    Scatter(block, tile.data);
  }

  // The length of the longest stretch of positions that one tile can show, 0 if none. Alignment and type are left out
  // of it: what isn't aligned is gathered tile by tile, and must be cut in the same tiles.
  std::size_t Run() const;
  // Whether positions follow each other without a gap, so that one row of a tile can hold several.
  bool DensePositions() const { return positions_.back().stride == row_bytes_; }
  // Whether such stretches of neighbouring channels do.
  bool ChannelsTouch() const { return channel_stride_ == static_cast<std::ptrdiff_t>(Run() * item_); }
  // How many elements its memory begins past a boundary of the widest vectors.
  std::size_t Lead() const { return reinterpret_cast<std::uintptr_t>(data_) / sizeof(E) % kMostLanes; }
  // How many such stretches lie at one stride.
  std::size_t RunsAtOneStride() const { return positions_.size() > 1 ? positions_[positions_.size() - 2].extent : 1; }

 private:
  bool Direct(const Block& block, Tile<E>* tile) const;
  std::size_t Elements(const Block& block) const { return block.positions * block.channels * inner_; }
  Tile<E> Dense(const Block& block, E* data, std::size_t apart) const;
  // Channels that a kernel takes one after the other.
  std::size_t TileChannels(const Block& block) const {
    return walk_ == Walk::kPlanar && !block.RowsAreChannels() ? block.channels : 1;
  }
  void Scatter(const Block& block, const E* from) const;
  template <class Body>
  void ForEachStretch(const Block& block, Body body) const;

  typename Kernels<E>::Gather gather_;
  typename Kernels<E>::Scatter scatter_;
  char* data_;
  std::size_t item_;
  bool converts_;
  Walk walk_;
  std::size_t inner_;
  std::size_t row_elements_;       // of one position
  std::ptrdiff_t row_bytes_;       // the same when dense
  std::ptrdiff_t channel_stride_;  // bytes
  bool aligned_;
  bool one_run_;                 // a position's elements are contiguous
  std::vector<Axis> positions_;  // merged where memory allows, never empty
  std::vector<Axis> elements_;   // kRows: positions and columns together, merged likewise
  std::ptrdiff_t ahead_;         // of a run that is gathered
  Storing storing_;
};

}  // namespace batchnorm
