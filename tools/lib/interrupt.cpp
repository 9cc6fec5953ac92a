#include <atomic>
#include <cerrno>
#include <unistd.h>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/tools/lib/interrupt.h>

namespace trinix::tools {

namespace {

// A handler has no argument of its own, so these three are the guard's state.
std::atomic<bool> guard_alive = false;
std::atomic<int> received = 0;
std::atomic<const std::string*> message_text = nullptr;
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<const std::string*>::is_always_lock_free);

void on_signal(int number) {
  const int saved = errno;
  received.store(number);
  const std::string* text = message_text.load();
  if (text != nullptr && !text->empty()) {
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text->data(), text->size());
  }
  errno = saved;
}

void install(int number, struct sigaction& previous) {
  ::sigaction(number, nullptr, &previous);
  if (previous.sa_handler == SIG_IGN) return;
  struct sigaction action = {};
  action.sa_handler = &on_signal;
  ::sigemptyset(&action.sa_mask);
  // The system's own reset makes the second signal deadly even if this process hangs.
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
  ::sigaction(number, &action, nullptr);
}

}  // namespace

InterruptGuard::InterruptGuard(std::string message) : message_(std::move(message)) {
  if (guard_alive.exchange(true)) {
    detail::fail<ConfigError>("interrupt", "another InterruptGuard is alive: signals belong to the whole process");
  }
  if (!message_.empty() && message_.back() != '\n') message_ += '\n';
  received.store(0);
  message_text.store(&message_);
  install(SIGINT, previous_int_);
  install(SIGTERM, previous_term_);
}

InterruptGuard::~InterruptGuard() {
  ::sigaction(SIGINT, &previous_int_, nullptr);
  ::sigaction(SIGTERM, &previous_term_, nullptr);
  message_text.store(nullptr);
  guard_alive.store(false);
}

int InterruptGuard::signal_number() const { return received.load(); }

}  // namespace trinix::tools
