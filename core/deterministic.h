#pragma once

/// @file
/// Bitwise reproducible results on request.

namespace trinix {

/// When on, equal inputs, seeds and thread counts give bitwise equal results from run to run on one machine; an op that
/// cannot keep that promise throws instead. Off at start.
void set_deterministic(bool on);

[[nodiscard]] bool is_deterministic();

}  // namespace trinix
