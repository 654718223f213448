// Backward through one part of a batch, or all of it, that was normalized as one.
#pragma once

#include "core/batch_norm.h"
#include "core/view.h"

namespace batchnorm {

// TrainBackward by the statistics of `part` and the parameters of the epilogue, whatever r and d the part has; dx is
// written as `store` says.
void PartBackward(const ArrayView& dy, const ArrayView* x, const ArrayView& dx, std::size_t axis, const SavedPart& part,
                  const EpilogueGradient& epilogue, Storing storing, Workers workers, const ParameterGradients& out);

}  // namespace batchnorm
