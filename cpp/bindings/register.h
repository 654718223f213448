// What each file of the bindings adds to the module.
#pragma once

#include <pybind11/pybind11.h>

namespace batchnorm::bindings {

void RegisterForward(pybind11::module_& m);
void RegisterBackward(pybind11::module_& m);
void RegisterStatistics(pybind11::module_& m);
void RegisterArrow(pybind11::module_& m);
void RegisterSystem(pybind11::module_& m);

}  // namespace batchnorm::bindings
