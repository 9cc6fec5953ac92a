#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <trinix/core/backend.h>

/// @file
/// Timing work on a card, by the protocol of bench/peers/torch_gpu.py: warm-up, then runs of several iterations between
/// two synchronisations; the median and the best run count. Iteration i is told its number, so that it can take its
/// turn among buffers that together exceed the L2 cache.

namespace trinix::bench {

struct Seconds {
  double median = 0;
  double best = 0;
};

struct MeasureOptions {
  int iterations = 1;  ///< per run; a run should take some milliseconds
  int warm_up = 5;
  int runs = 20;
};

/// @param prepare called before each run, outside of the time that counts
template <class Work, class Prepare>
Seconds measure(Device device, const MeasureOptions& options, Work&& work, Prepare&& prepare) {
  int count = 0;
  for (int i = 0; i < options.warm_up; ++i) {
    if (i % options.iterations == 0) prepare();
    work(count++);
  }
  std::vector<double> times;
  for (int run = 0; run < options.runs; ++run) {
    prepare();
    synchronize(device);
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < options.iterations; ++i) work(count++);
    synchronize(device);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    times.push_back(took.count() / options.iterations);
  }
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times.front()};
}

template <class Work>
Seconds measure(Device device, const MeasureOptions& options, Work&& work) {
  return measure(device, options, work, [] {});
}

/// Prints one JSON object a result, and writes all of them to a file.
class Report {
 public:
  using Numbers = std::vector<std::pair<const char*, double>>;

  void add(const std::string& workload, const std::string& variant, const Seconds& seconds, const Numbers& more = {}) {
    std::string row = "{\"workload\": \"" + workload + "\", \"variant\": \"trinix " + variant + "\"";
    const auto number = [&](const char* key, double value) {
      char text[64];
      std::snprintf(text, sizeof(text), ", \"%s\": %.6g", key, value);
      row += text;
    };
    number("ms", seconds.median * 1e3);
    number("best_ms", seconds.best * 1e3);
    for (const auto& [key, value] : more) number(key, value);
    rows_.push_back(row + "}");
    std::printf("%s\n", rows_.back().c_str());
    std::fflush(stdout);
  }

  /// False when the file cannot be written.
  [[nodiscard]] bool write(const std::string& path, const std::string& card) const {
    std::ofstream out(path);
    out << "{\"card\": \"" << card << "\", \"results\": [";
    for (std::size_t i = 0; i < rows_.size(); ++i) out << (i == 0 ? "\n " : ",\n ") << rows_[i];
    out << "\n]}\n";
    return static_cast<bool>(out.flush());
  }

 private:
  std::vector<std::string> rows_;
};

}  // namespace trinix::bench
