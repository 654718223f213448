#include "bindings/register.h"

PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
  m.attr("__version__") = BATCHNORM_VERSION;
  batchnorm::bindings::RegisterForward(m);
  batchnorm::bindings::RegisterBackward(m);
  batchnorm::bindings::RegisterStatistics(m);
  batchnorm::bindings::RegisterArrow(m);
  batchnorm::bindings::RegisterSystem(m);
}
