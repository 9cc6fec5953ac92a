#pragma once

#include <string_view>

/// @file
/// What a stream of output is and how to write to it without dying of it. POSIX.

namespace trinix::tools {

/// Whether the descriptor is a terminal on which a line can be drawn over (TERM is not "dumb").
[[nodiscard]] bool is_terminal(int fd);

/// Columns of the terminal, from the system, else from COLUMNS, else 80.
[[nodiscard]] int terminal_width(int fd);

/// Whether the environment's locale is a UTF-8 one.
[[nodiscard]] bool is_utf8_locale();

/// Writes all of it to the descriptor. A reader that went away gives false and not the signal SIGPIPE, whatever the
/// host program's handling of that signal is; so does any other error.
bool write_quietly(int fd, std::string_view text);

}  // namespace trinix::tools
