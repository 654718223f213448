// Numbers, flags and choices from Python: checked, and described in errors as `name: expected WHAT, got WHAT`.
// TypeError for what a thing is, ValueError for what it holds.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/types.h"

namespace batchnorm::bindings {

namespace py = pybind11;

[[noreturn]] void FailType(const std::string& name, const std::string& expected, const std::string& got);
[[noreturn]] void FailValue(const std::string& name, const std::string& expected, const std::string& got);
std::string TypeOf(py::handle object);
std::string Repr(py::handle object);
std::string InChannel(double value, std::size_t channel);  // "0.5 in channel 3"

py::ssize_t Axis(py::handle axis);
double Eps(py::handle eps);
double Momentum(py::handle momentum);
double MomentumOfNew(py::handle momentum, py::handle momentum_of);  // the weight of the new value
// (r_max, d_max) of a renormalization, or nothing for None.
std::optional<std::pair<double, double>> RenormBounds(py::handle renorm);
bool Flag(py::handle object, const char* name);
// The index of the string in `choices`.
std::size_t Choice(py::handle object, const char* name, const std::vector<const char*>& choices);
int Threads(py::handle num_threads);
Workers WorkersOf(py::handle num_threads, py::handle flush_subnormals);
std::size_t PositiveInt(py::handle object, const char* name);
double Real(py::handle object, const char* name);

}  // namespace batchnorm::bindings
