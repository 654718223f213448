// Running tasks on threads. The only door to OpenMP. Which thread runs a task never changes what it computes.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "core/scratch.h"
#include "core/types.h"

namespace batchnorm {

using Task = std::function<void(std::size_t, Scratch&)>;

// Runs body(task, scratch) for every task in [0, tasks), in order or from the end.
struct Step {
  std::size_t tasks;
  Order order;
  Task body;
};

// Runs the steps one after another: a step begins when all tasks of the one before are done. Every worker takes tasks
// in the step's order. A thread treats subnormal numbers afterwards as it did before.
// The first exception that a task throws is thrown here, after all workers have stopped.
void RunSteps(const std::vector<Step>& steps, Workers workers);

// Threads that a call uses when it isn't told: SetThreads, else the runtime's own default at this moment.
int DefaultThreads();
// 0 goes back to the runtime's default.
void SetThreads(int threads);

// Name and version of the runtime; empty where tasks run serially.
std::string ParallelRuntime();

}  // namespace batchnorm
