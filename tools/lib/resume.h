#pragma once

#include <trinix/tools/lib/config.h>

/// @file
/// Going on with a run.

namespace trinix::tools {

/// The options of a resumed run: the checkpoint's, with those that were chosen anew on top. Those that make the model
/// what it is cannot change; the device and the dtype may. @throws ConfigError
[[nodiscard]] TrainConfig resumed_config(const TrainConfig& given, const TrainConfig& saved);

}  // namespace trinix::tools
