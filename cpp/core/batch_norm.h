// Batch normalization of arrays in memory: the C++ interface.
//
// Arrays are float32 or float64 with any strides, all of one call of one type and one shape; `axis` is the channel
// axis. Per-channel results are float64 arrays of one value per channel. Outputs may be x (forward) or dy (backward)
// itself and overlap nothing else. Callers check arguments; std::invalid_argument tells of a BATCHNORM_ISA that can't
// be had.
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

// mean and m2 of every channel; NaN and 0 of an empty one.
void ChannelStatistics(const ArrayView& x, std::size_t axis, int threads, double* mean, double* m2);

// y = (x - mean) * rstd * weight + bias with the statistics of x itself. Fills mean, rstd, var (biased).
// `running` may be null.
void TrainForward(const ArrayView& x, const ArrayView& y, std::size_t axis, const AffineTransform& affine, double eps,
                  const RunningStats* running, int threads, double* mean, double* rstd, double* var);

// The same with given statistics.
void InferenceForward(const ArrayView& x, const ArrayView& y, std::size_t axis, ChannelVector mean, ChannelVector var,
                      const AffineTransform& affine, double eps, int threads);

// The inverse of InferenceForward: x = (y - bias) / weight * sqrt(var + eps) + mean. No weight is 0.
void Denormalize(const ArrayView& y, const ArrayView& x, std::size_t axis, ChannelVector mean, ChannelVector var,
                 const AffineTransform& affine, double eps, int threads);

// What backward writes per channel.
struct ParameterGradients {
  ChannelVector dweight, dbias;
  ChannelVector dmean, dvar;  // inference form
};

// Gradients of TrainForward: with xhat = (x - mean) * rstd and means over the channel,
//     dbias = sum(dy), dweight = sum(dy * xhat), dx = weight * rstd * (dy - dbias / n - xhat * dweight / n)
void TrainBackward(const ArrayView& dy, const ArrayView& x, const ArrayView& dx, std::size_t axis, const double* mean,
                   const double* rstd, ChannelVector weight, int threads, const ParameterGradients& out);

// Gradients of InferenceForward: dx = weight * rstd * dy, dbias and dweight as above,
//     dmean = -weight * rstd * dbias, dvar = -weight * rstd^2 * dweight / 2
void InferenceBackward(const ArrayView& dy, const ArrayView& x, const ArrayView& dx, std::size_t axis,
                       ChannelVector mean, ChannelVector var, ChannelVector weight, double eps, int threads,
                       const ParameterGradients& out);

}  // namespace batchnorm
