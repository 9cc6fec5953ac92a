#include "temp_folder.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include <trinix/core/error.h>
#include <trinix/tools/lib/metrics.h>

namespace trinix::tools {
namespace {

using test::error_of;
using test::TempFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

MetricsRow row_at(std::int64_t step) {
  return {.step = step, .loss = 2.5, .lr = 1e-3, .grad_norm = 0.75, .tokens_per_second = 21340.5, .elapsed_s = 12.25};
}

std::vector<std::int64_t> steps_in(const std::filesystem::path& path) {
  std::vector<std::int64_t> steps;
  for (const auto& row : read_metrics(path)) steps.push_back(row.step);
  return steps;
}

TEST(Metrics, AreJsonObjectsWithTheAgreedKeys) {
  EXPECT_EQ(to_json_line(row_at(7)),
            R"({"step":7,"loss":2.5,"lr":0.001,"grad_norm":0.75,"tokens_per_second":21340.5,"elapsed_s":12.25})");
  MetricsRow row = row_at(250);
  row.evaluated = true;
  row.train_loss = 1.5;
  row.val_loss = 1.75;
  EXPECT_THAT(to_json_line(row), HasSubstr(R"(,"train_loss":1.5,"val_loss":1.75})"));
  row.train_loss = NAN;
  EXPECT_THAT(to_json_line(row), HasSubstr(R"("elapsed_s":12.25,"val_loss":1.75})"));
}

TEST(Metrics, NumbersThatAreNotFiniteAreNull) {
  MetricsRow row = row_at(1);
  row.loss = NAN;
  row.grad_norm = INFINITY;
  row.evaluated = true;
  row.val_loss = -INFINITY;
  const auto json = nlohmann::json::parse(to_json_line(row));
  EXPECT_TRUE(json["loss"].is_null());
  EXPECT_TRUE(json["grad_norm"].is_null());
  EXPECT_TRUE(json["val_loss"].is_null());
}

TEST(Metrics, EachRowIsInTheFileAtOnce) {
  TempFolder folder;
  MetricsWriter writer(folder / "metrics.jsonl");
  writer.write(row_at(1));
  EXPECT_THAT(steps_in(folder / "metrics.jsonl"), ElementsAre(1));
  writer.write(row_at(2));
  const auto rows = read_metrics(folder / "metrics.jsonl");
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[1].step, 2);
  EXPECT_EQ(rows[1].loss, 2.5);
  EXPECT_EQ(rows[1].lr, 1e-3);
  EXPECT_EQ(rows[1].elapsed_s, 12.25);
  EXPECT_FALSE(rows[1].evaluated);
}

TEST(Metrics, AResumedRunHasNoStepTwice) {
  TempFolder folder;
  const auto path = folder / "metrics.jsonl";
  {
    MetricsWriter writer(path);
    for (int step = 1; step <= 7; ++step) writer.write(row_at(step));
  }
  // The process died in the middle of a line, two steps after its checkpoint at step 5.
  std::ofstream(path, std::ios::app) << R"({"step":8,"lo)";
  MetricsWriter writer(path, 6);
  EXPECT_THAT(steps_in(path), ElementsAre(1, 2, 3, 4, 5));
  writer.write(row_at(6));
  EXPECT_THAT(steps_in(path), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_NO_THROW(MetricsWriter(folder / "other.jsonl", 6));
  EXPECT_NO_THROW(MetricsWriter{path});
  EXPECT_TRUE(read_metrics(path).empty()) << "a new run must start a new file";
}

TEST(Metrics, ADamagedFileIsNamedWithItsLine) {
  TempFolder folder;
  const auto path = folder.add("metrics.jsonl", "{\"step\":1}\nnonsense\n");
  EXPECT_EQ(error_of<FormatError>([&] { (void)read_metrics(path); }),
            "[metrics] '" + path.string() + "', line 2: not a JSON object with a whole \"step\"");
  EXPECT_THROW(MetricsWriter(path, 2), FormatError);
  EXPECT_TRUE(read_metrics(folder / "missing").empty());
}

TEST(Metrics, AFullDiskLeavesWholeLines) {
  TempFolder folder;
  FileCalls calls;
  // Room for a line and a half.
  static std::size_t room;
  room = 150;
  calls.write = [](int fd, const void* data, std::size_t size) -> ssize_t {
    if (room == 0) {
      errno = ENOSPC;
      return -1;
    }
    const std::size_t part = std::min(room, size);
    room -= part;
    return ::write(fd, data, part);
  };
  MetricsWriter writer(folder / "metrics.jsonl", 1, calls);
  writer.write(row_at(1));
  EXPECT_THAT(error_of<IoError>([&] { writer.write(row_at(2)); }), HasSubstr("No space left on device"));
  EXPECT_EQ(read_file(folder / "metrics.jsonl"), to_json_line(row_at(1)) + "\n");
  room = 1000;
  writer.write(row_at(2));
  EXPECT_THAT(steps_in(folder / "metrics.jsonl"), ElementsAre(1, 2));
}

}  // namespace
}  // namespace trinix::tools
