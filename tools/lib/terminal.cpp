#include <cerrno>
#include <cstdlib>
#include <poll.h>
#include <signal.h>
#include <string>
#include <sys/ioctl.h>
#include <unistd.h>

#include <trinix/tools/lib/number.h>
#include <trinix/tools/lib/terminal.h>

namespace trinix::tools {

namespace {

std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : value;
}

/// Keeps a SIGPIPE that this thread causes from reaching it, and swallows it: the way that leaves the host program's
/// handler alone.
class PipeSignalHeld {
 public:
  PipeSignalHeld() {
    sigset_t pending;
    ::sigpending(&pending);
    was_pending_ = ::sigismember(&pending, SIGPIPE) == 1;
    ::sigemptyset(&pipe_);
    ::sigaddset(&pipe_, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~PipeSignalHeld() {
    if (!was_pending_) {
      sigset_t pending;
      ::sigpending(&pending);
      int number = 0;
      if (::sigismember(&pending, SIGPIPE) == 1) ::sigwait(&pipe_, &number);
    }
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  PipeSignalHeld(const PipeSignalHeld&) = delete;
  PipeSignalHeld& operator=(const PipeSignalHeld&) = delete;

 private:
  sigset_t pipe_;
  sigset_t before_;
  bool was_pending_ = false;
};

}  // namespace

bool is_terminal(int fd) { return ::isatty(fd) == 1 && environment("TERM") != "dumb"; }

int terminal_width(int fd) {
  struct winsize size {};
  if (::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  const auto columns = parse_integer(environment("COLUMNS"));
  return columns && *columns > 0 && *columns < 10000 ? static_cast<int>(*columns) : 80;
}

bool is_utf8_locale() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const std::string_view value = environment(name);
    if (value.empty()) continue;
    return value.find("UTF-8") != std::string_view::npos || value.find("utf8") != std::string_view::npos;
  }
  return false;
}

bool write_quietly(int fd, std::string_view text) {
  const PipeSignalHeld held;
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written > 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      struct pollfd waiting = {fd, POLLOUT, 0};
      if (::poll(&waiting, 1, 1000) < 0 && errno != EINTR) return false;
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

}  // namespace trinix::tools
