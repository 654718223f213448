// Batch normalization of arrays in memory: the C++ interface.
//
// Arrays have any strides; those of one call have one shape, and float64 all or none; `axis` is the channel axis.
// Per-channel results are float64 arrays of one value per channel. Outputs may be x (forward) or dy (backward) itself
// and overlap nothing else. Callers check arguments; std::invalid_argument tells of a BATCHNORM_ISA that can't be had.
//
// Ioffe and Szegedy, "Batch Normalization", 2015: the transform is Algorithm 1, its gradient section 3.
#pragma once

#include <cstdint>

#include "core/channel_stats.h"
#include "core/types.h"

namespace batchnorm {

// (var + eps)^(-1/2), and 0 where var + eps is 0: a constant channel is then all bias, and its gradient 0.
double ReciprocalStd(double var, double eps);

// Number of values per channel.
std::int64_t CountOf(const ArrayView& x, std::size_t axis);

struct AffineTransform {
  ChannelVector weight, bias;  // 1 and 0 where absent
};

// What follows the transform: y = act(transform(x) + residual), act(v) = v * slope where v is negative, else v.
struct Epilogue {
  ChannelVector slope;                  // 1 where absent: no activation
  const ArrayView* residual = nullptr;  // 0 where absent
  const ArrayView* signs = nullptr;     // of DType::kSign: takes those of what the activation saw
};

// mean and m2 of every channel; NaN and 0 of an empty one. x may be of any DType; sums of integers are exact.
void ChannelStatistics(const ArrayView& x, std::size_t axis, int threads, double* mean, double* m2);

// y = act((x - mean) * rstd * weight + bias + residual) with the statistics of x itself. Fills mean, rstd, var
// (biased). `running` may be null.
void TrainForward(const ArrayView& x, const ArrayView& y, std::size_t axis, const AffineTransform& affine,
                  const Epilogue& epilogue, double eps, const RunningStats* running, int threads, double* mean,
                  double* rstd, double* var);

// The same with given statistics. x may be of any DType.
void InferenceForward(const ArrayView& x, const ArrayView& y, std::size_t axis, ChannelVector mean, ChannelVector var,
                      const AffineTransform& affine, const Epilogue& epilogue, double eps, int threads);

// The inverse of InferenceForward without an epilogue: x = (y - bias) / weight * sqrt(var + eps) + mean. No weight is
// 0.
void Denormalize(const ArrayView& y, const ArrayView& x, std::size_t axis, ChannelVector mean, ChannelVector var,
                 const AffineTransform& affine, double eps, int threads);

// How dy comes back through the epilogue, as g = dy * act'(v).
struct EpilogueGradient {
  ChannelVector slope;     // absent: no activation
  AffineTransform affine;  // the forward's
  // What tells the side of the kink: y, or the signs that were kept; without either x, and what was added to it.
  const ArrayView* y = nullptr;
  const ArrayView* residual = nullptr;
  const ArrayView* dresidual = nullptr;  // takes g; may be dy where dx is not
  ChannelVector dslope;                  // takes sum(dy * v) over the v that are not positive
};

// What backward writes per channel.
struct ParameterGradients {
  ChannelVector dweight, dbias;
  ChannelVector dmean, dvar;  // inference form
};

// Gradients of TrainForward: with xhat = (x - mean) * rstd and means over the channel,
//     dbias = sum(g), dweight = sum(g * xhat), dx = weight * rstd * (g - dbias / n - xhat * dweight / n)
// x may be null where the epilogue has a y and nothing but a transform by a weight other than 0 and an activation with
// positive slopes led to it: then x is found from y (Rota Bulo et al., "In-Place Activated BatchNorm", 2018, section
// 3).
void TrainBackward(const ArrayView& dy, const ArrayView* x, const ArrayView& dx, std::size_t axis, const double* mean,
                   const double* rstd, const EpilogueGradient& epilogue, int threads, const ParameterGradients& out);

// Gradients of InferenceForward: dx = weight * rstd * g, dbias and dweight as above,
//     dmean = -weight * rstd * dbias, dvar = -weight * rstd^2 * dweight / 2
// Of the epilogue's affine transform.
void InferenceBackward(const ArrayView& dy, const ArrayView& x, const ArrayView& dx, std::size_t axis,
                       ChannelVector mean, ChannelVector var, const EpilogueGradient& epilogue, double eps, int threads,
                       const ParameterGradients& out);

}  // namespace batchnorm
