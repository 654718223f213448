// Batch normalization of arrays in memory: the C++ interface.
//
// Arrays have any strides; those of one call have one shape, and float64 all or none; `axis` is the channel axis.
// Per-channel results are float64 arrays of one value per channel. Outputs may be x (forward) or dy (backward) itself
// and overlap nothing else. Callers check arguments; std::invalid_argument tells of a BATCHNORM_ISA that can't be had.
//
// Ioffe and Szegedy, "Batch Normalization", 2015: the transform is Algorithm 1, its gradient section 3.
#pragma once

#include <cstdint>
#include <vector>

#include "core/channel_stats.h"
#include "core/types.h"

namespace batchnorm {

class BatchSlices;

// (var + eps)^(-1/2), and 0 where var + eps is 0: a constant channel is then all bias, and its gradient 0.
double ReciprocalStd(double var, double eps);

// Number of values per channel, of those that a mask lets count. (A mask has the shape of x, and a stride of 0 along
// the channels.)
std::int64_t CountOf(const ArrayView& x, std::size_t axis, const ArrayView* mask, Workers workers);

// The same of each part that a batch is cut into.
std::vector<std::int64_t> CountsOf(const ArrayView& x, std::size_t axis, const ArrayView* mask,
                                   const BatchSlices& slices, Workers workers);

// What weights, seen as a mask is, add up to.
double SumOfWeights(const ArrayView& x, std::size_t axis, const ArrayView& weights);

struct AffineTransform {
  ChannelVector weight, bias;  // 1 and 0 where absent
};

// Batch renormalization (Ioffe, "Batch Renormalization", 2017, Algorithm 1): xhat * r + d in place of xhat, with
//     r = sigma_batch / sigma, at least 1 / r_max and at most r_max
//     d = (mean_batch - mean) / sigma, at least -d_max and at most d_max
// where mean and sigma are those of the running statistics before this batch.
struct Renormalization {
  ChannelVector mean, var;
  double r_max, d_max;
};

// What is done about a batch with a mean or a variance that isn't finite: nothing; std::domain_error before y and
// running statistics are written; running statistics stay as they are.
enum class OnNonfinite { kPropagate, kRaise, kSkipUpdate };

// What follows the transform: y = act(transform(x) + residual), act(v) = v * slope where v is negative, else v.
struct Epilogue {
  ChannelVector slope;                  // 1 where absent: no activation
  const ArrayView* residual = nullptr;  // 0 where absent
  const ArrayView* signs = nullptr;     // of DType::kSign: takes those of what the activation saw
};

// mean and m2 of every channel; NaN and 0 of one without values. x may be of any DType; sums of integers are exact.
// `shared` is null, a mask, or weights (float32 or float64): then m2 is the sum of weight * (x - mean)^2. `measure` is
// what CountOf or SumOfWeights tells of it. True if there are exact `sums`, too: of integers without weights, unless
// there are so many that float64 may not hold their sum.
bool ChannelStatistics(const ArrayView& x, std::size_t axis, const ArrayView* shared, double measure, Workers workers,
                       double* mean, double* m2, IntegerSums sums);

// The least and the greatest value of every channel that a mask, which may be null, lets count, but for NaN; infinity
// and -infinity of one without values.
void ChannelExtremes(const ArrayView& x, std::size_t axis, const ArrayView* mask, Workers workers, double* low,
                     double* high);

// How a training batch is normalized.
struct Training {
  AffineTransform affine;
  Epilogue epilogue;
  double eps = 0;
  const RunningStats* running = nullptr;             // null: none, or they stay
  const Renormalization* renormalization = nullptr;  // or null
  OnNonfinite on_nonfinite = OnNonfinite::kPropagate;
  const ArrayView* mask = nullptr;  // or null
};

// What is found out on the way, per channel: the statistics, var biased, and r and d of a renormalization, else null.
struct BatchStatistics {
  double *mean, *rstd, *var;
  double *r = nullptr, *d = nullptr;
  std::int64_t count = 0;
};

// y = act((x - mean) * rstd * weight + bias + residual) with the statistics of x itself, and 0 where x is masked. The
// batch is cut into so many parts as there are `parts` (BatchSlices), each of which has statistics of its own; running
// statistics, and `whole`, which may be null, take in those of all together.
void TrainForward(const ArrayView& x, const ArrayView& y, std::size_t axis, const Training& training, Workers workers,
                  std::vector<BatchStatistics>& parts, const BatchStatistics* whole);

// The same with given statistics. x may be of any DType.
void InferenceForward(const ArrayView& x, const ArrayView& y, std::size_t axis, ChannelVector mean, ChannelVector var,
                      const AffineTransform& affine, const Epilogue& epilogue, double eps, const ArrayView* mask,
                      Workers workers);

// The inverse of InferenceForward without an epilogue: x = (y - bias) / weight * sqrt(var + eps) + mean. No weight is
// 0.
void Denormalize(const ArrayView& y, const ArrayView& x, std::size_t axis, ChannelVector mean, ChannelVector var,
                 const AffineTransform& affine, double eps, Workers workers);

// How dy comes back through the epilogue, as g = dy * act'(v).
struct EpilogueGradient {
  ChannelVector slope;     // absent: no activation
  AffineTransform affine;  // the forward's
  // What tells the side of the kink: y, or the signs that were kept; without either x, and what was added to it.
  const ArrayView* y = nullptr;
  const ArrayView* residual = nullptr;
  const ArrayView* mask = nullptr;       // the forward's: dx and g are 0 where it is false
  const ArrayView* dresidual = nullptr;  // takes g; may be dy where dx is not
  ChannelVector dslope;                  // takes sum(dy * v) over the v that are not positive
};

// What backward writes per channel.
struct ParameterGradients {
  ChannelVector dweight, dbias;
  ChannelVector dmean, dvar;  // inference form
};

// What a backward takes of the statistics of a part of the batch: mean and rstd, r and d of a renormalization, else
// null, and the number of values per channel.
struct SavedPart {
  const double *mean, *rstd;
  const double *r = nullptr, *d = nullptr;
  std::int64_t count = 0;
};

// Gradients of TrainForward: with xhat = (x - mean) * rstd and means over the channel,
//     dbias = sum(g), dweight = sum(g * xhat), dx = weight * rstd * (g - dbias / n - xhat * dweight / n)
// in each of the `parts` that the forward had, weight * r and bias + weight * d in place of weight and bias.
// x may be null where the epilogue has a y and nothing but a transform by a weight other than 0 and an activation with
// positive slopes led to it: then x is found from y (Rota Bulo et al., "In-Place Activated BatchNorm", 2018, section
// 3).
void TrainBackward(const ArrayView& dy, const ArrayView* x, const ArrayView& dx, std::size_t axis,
                   const std::vector<SavedPart>& parts, const EpilogueGradient& epilogue, Workers workers,
                   const ParameterGradients& out);

// Gradients of InferenceForward: dx = weight * rstd * g, dbias and dweight as above,
//     dmean = -weight * rstd * dbias, dvar = -weight * rstd^2 * dweight / 2
// Of the epilogue's affine transform.
void InferenceBackward(const ArrayView& dy, const ArrayView& x, const ArrayView& dx, std::size_t axis,
                       ChannelVector mean, ChannelVector var, const EpilogueGradient& epilogue, double eps,
                       Workers workers, const ParameterGradients& out);

// What the gradients of a backward without an epilogue are differentiated by: ddx, null for 0, and per channel ddweight
// and ddbias, absent for 0.
struct SecondGradient {
  const ArrayView* ddx;
  ChannelVector ddweight, ddbias;
};

// Gradients of sum(ddx * dx) + sum(ddweight * dweight) + sum(ddbias * dbias), where dx, dweight and dbias are those of
// dy, by dy, x and the weight. With means over the channel and scale = weight * rstd,
//     p = mean(ddx * xhat), q = mean(dy * xhat), s = sum(ddx * dy) - n * (mean(ddx) * mean(dy) + p * q)
//     ddy     = scale * (ddx - mean(ddx) - xhat * p) + ddweight * xhat + ddbias
//     h       = (ddweight - scale * p) * dy - scale * q * ddx
//     dx      = rstd * (h - mean(h) - xhat * mean(h * xhat)) - scale * s * rstd * xhat / n
//     dweight = rstd * s
// Where statistics are given (`batch` false):
//     ddy = scale * ddx + ddweight * xhat + ddbias, dx = ddweight * rstd * dy, dweight = rstd * sum(ddx * dy)
void DoubleBackward(const SecondGradient& second, const ArrayView& dy, const ArrayView& x, std::size_t axis,
                    const double* mean, const double* rstd, ChannelVector weight, bool batch, Workers workers,
                    const ArrayView& ddy, const ArrayView& dx, ChannelVector dweight);

}  // namespace batchnorm
