#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>

/// @file
/// A kernel that waits for ever leaves the host waiting too, and no exception gets it out of there.

namespace trinix::testing {

/// Ends the process with an error, after a line that says what ran, when it lives for longer than the time given. What
/// the card does ends with the process. Under tools that slow kernels down, the environment variable
/// TRINIX_TEST_PATIENCE multiplies the time.
class HangWatch {
 public:
  explicit HangWatch(std::string what, std::chrono::seconds longest = std::chrono::seconds(60))
      : what_(std::move(what)), longest_(longest * patience()), thread_([this] { watch(); }) {}
  ~HangWatch() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }
  HangWatch(const HangWatch&) = delete;
  HangWatch& operator=(const HangWatch&) = delete;

 private:
  static int patience() {
    const char* const text = std::getenv("TRINIX_TEST_PATIENCE");
    return text == nullptr ? 1 : std::max(1, std::atoi(text));
  }
  void watch() {
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, longest_, [this] { return over_; })) return;
    std::fprintf(stderr, "[  FAILED  ] still running after %lld s, taken for a hang: %s\n",
                 static_cast<long long>(longest_.count()), what_.c_str());
    std::fflush(nullptr);
    std::_Exit(1);
  }

  std::string what_;
  std::chrono::seconds longest_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::thread thread_;  // last: it uses what stands above
};

}  // namespace trinix::testing
