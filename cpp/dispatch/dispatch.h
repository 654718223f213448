// Which kernels a call uses: chosen once, at the first call, from what is built and what the CPU has. The environment
// variable BATCHNORM_ISA forces one; it is read once.
#pragma once

#include <string>
#include <vector>

#include "dispatch/kernel_table.h"

namespace batchnorm {

// Names of the instruction sets, slowest first.
std::vector<std::string> BuiltIsas();
std::vector<std::string> UsableIsas();  // built, and this CPU has them

// The kernels in use. std::invalid_argument if BATCHNORM_ISA names none of UsableIsas().
const KernelTable& ActiveKernels();

// Forces an instruction set for tests; an empty name goes back to the choice at start.
void SetIsa(const std::string& name);

}  // namespace batchnorm
