// The second half of every job: an array written block by block, from arrays read and parameters per channel.
#pragma once

#include "core/sweep.h"

namespace batchnorm {

// A map over blocks. How one differs from another:
//     Job::kFields                               parameters that its kernel takes
//     job.Parameters(group, c)                   their values; c counts the group's channels from its first
//     job.Run(kernels, store, block, columns, scratch, out)   calls the kernel
template <class T, class Job>
class Mapper {
 public:
  enum { kColumns = Job::kFields };

  Mapper(const Plan& plan, const KernelTable& table, const Operand<T>& out, StoreKind store, Job job)
      : plan_(plan), table_(table), kernels_(KernelsFor<T>(plan, table)), out_(out), store_(store), job_(job) {}

  void Prepare(Group<T>& group) const {
    group.map.Fill([&](std::size_t c) { return job_.Parameters(group, c); });
  }

  void operator()(const Group<T>& group, std::size_t chunk, const Sweep& sweep, Scratch& scratch) const {
    plan_.ForEachBlock(group.index, chunk, sweep, [&](const Block& block) {
      out_.Write(block, scratch, [&](Tile<T> out, bool direct) {
        // Scratch memory is read back at once.
        job_.Run(kernels_, direct ? store_ : StoreKind::kPlain, block, group.map, scratch, out);
      });
    });
    if (store_ == StoreKind::kStream) table_.fence();
  }

 private:
  const Plan& plan_;
  const KernelTable& table_;
  const WalkKernels<T>& kernels_;
  const Operand<T>& out_;
  StoreKind store_;
  Job job_;
};

// out = (in - center) * scale + shift
struct ChannelAffine {
  double center, scale, shift;
};

// The map that every forward job ends with, and the inference form of backward; affine(channel) gives the
// ChannelAffine.
template <class T, class AffineAt>
struct AffineJob {
  const Operand<T>& in;
  AffineAt affine;

  enum { kCenter, kScale, kShift, kFields };

  std::array<double, kFields> Parameters(const Group<T>& group, std::size_t c) const {
    const ChannelAffine a = affine(group.first + c);
    const double low = LostByRounding<T>(a.center);
    return {a.center, a.scale, low == 0 ? a.shift : a.shift - low * a.scale};
  }

  void Run(const WalkKernels<T>& kernels, StoreKind store, const Block& block, const ColumnParameters<T>& p,
           Scratch& scratch, Tile<T> out) const {
    kernels.affine[static_cast<std::size_t>(store)](
        in.Read(block, scratch, Scratch::kX),
        {p.At(kCenter, block), p.At(kScale, block), p.At(kShift, block), p.RowsOf(block)}, out);
  }
};
template <class T, class AffineAt>
AffineJob(const Operand<T>&, AffineAt) -> AffineJob<T, AffineAt>;

}  // namespace batchnorm
