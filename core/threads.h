#pragma once

/// @file
/// How many CPU threads the library's kernels may use.

namespace trinix {

/// Sets the number of threads for kernels called from any thread; 0 returns to the default, which is what OpenMP would
/// use (OMP_NUM_THREADS, else the number of cores). The host program's own OpenMP settings are neither read by other
/// means nor changed. @throws ConfigError for a negative count.
void set_num_threads(int count);

[[nodiscard]] int num_threads();

}  // namespace trinix
