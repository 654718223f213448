// The second half of every job: an array written block by block, from arrays read and parameters per channel.
#pragma once

#include <optional>

#include "core/sweep.h"

namespace batchnorm {

// Of an array that a call may be without.
template <class E>
std::optional<Operand<E>> OperandOf(const ArrayView* array, const Layout& layout, const KernelTable& table,
                                    Storing storing = {}) {
  if (!array) return std::nullopt;
  return Operand<E>(*array, layout, table, storing);
}

// A map over blocks. How one differs from another:
//     job.fields()                               parameters that its kernel takes
//     job.Parameters(group, c)                   their values, or more; c counts the group's channels from its first
//     job.Run(kernels, block, columns, scratch, out)   calls the kernel
template <class E, class Job>
class Mapper {
 public:
  std::size_t columns() const { return job_.fields(); }
  std::size_t lead() const { return out_.Lead(); }

  Mapper(const Plan& plan, const KernelTable& table, const Operand<E>& out, Job job)
      : plan_(plan), table_(table), kernels_(KernelsFor<E>(plan, table)), out_(out), job_(job) {}

  void Prepare(Group<Lane<E>>& group) const {
    group.map.Fill(job_.fields(), group.span, [&](std::size_t c) { return job_.Parameters(group, c); });
  }

  void operator()(const Group<Lane<E>>& group, std::size_t chunk, const Sweep& sweep, Scratch& scratch) const {
    plan_.ForEachBlock(group.index, chunk, sweep, [&](const Block& block) {
      out_.Write(block, scratch, Scratch::kOut,
                 [&](Tile<E> out) { job_.Run(kernels_, block, group.map, scratch, out); });
    });
    if (out_.store() == StoreKind::kStream) table_.fence();
  }

 private:
  const Plan& plan_;
  const KernelTable& table_;
  const WalkKernels<E>& kernels_;
  const Operand<E>& out_;
  Job job_;
};

}  // namespace batchnorm
