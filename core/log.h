#pragma once

#include <functional>
#include <string_view>

/// @file
/// The few remarks the library makes on its own, such as "fell back to another kernel".

namespace trinix {

/// Receives each remark, one line without a newline. The default prints it to standard error; an empty function
/// silences it. Not safe while other threads call into the library.
void set_log_handler(std::function<void(std::string_view)> handler);

/// Makes a remark.
void log(std::string_view message);

}  // namespace trinix
