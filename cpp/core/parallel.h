// Running tasks on threads. The only door to OpenMP. Which thread runs a task never changes what it computes.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "core/scratch.h"
#include "core/types.h"

namespace batchnorm {

using Task = std::function<void(std::size_t, Scratch&)>;

// Runs body(task, scratch) for every task in [0, tasks) on the workers, each in order or from the end. A thread treats
// subnormal numbers afterwards as it did before.
// The first exception that a task throws is thrown here, after all workers have stopped.
void ParallelFor(std::size_t tasks, Workers workers, Order order, const Task& body);

// Threads that a call uses when it isn't told: SetThreads, else the runtime's own default at this moment.
int DefaultThreads();
// 0 goes back to the runtime's default.
void SetThreads(int threads);

// Name and version of the runtime; empty where tasks run serially.
std::string ParallelRuntime();

}  // namespace batchnorm
