#pragma once

#include "temp_folder.h"

#include <gtest/gtest.h>
#include <string>

#include <trinix/tools/lib/file_io.h>
#include <trinix/tools/lib/trainer.h>

namespace trinix::tools::test {

inline std::string small_text() {
  std::string text;
  for (int i = 0; i < 400; ++i) text += "the quick brown fox " + std::to_string(i * 7919 % 1000) + "\n";
  return text;
}

/// A model that trains in milliseconds, with dropout so that the generator matters.
inline TrainConfig small_config(const TempFolder& folder, const std::string& run) {
  TrainConfig c;
  c.data = folder.add("text.txt", small_text()).string();
  c.out = (folder / run).string();
  c.iters = 8;
  c.batch = 3;
  c.block = 16;
  c.layers = 2;
  c.heads = 2;
  c.width = 16;
  c.dropout = 0.2;
  c.warmup = 2;
  c.eval_interval = 4;
  c.eval_iters = 2;
  c.checkpoint_interval = 4;
  c.grad_accum = 2;
  c.threads = 2;
  return c;
}

inline TrainResult train_quietly(const TrainConfig& config, const TrainHooks& hooks = {}) {
  TrainHooks quiet = hooks;
  quiet.show_progress = false;
  return train(config, quiet);
}

/// All tensors of two checkpoint files are equal to the bit.
inline void expect_same_file(const std::filesystem::path& a, const std::filesystem::path& b) {
  EXPECT_EQ(read_file(a), read_file(b)) << a << " and " << b;
}

}  // namespace trinix::tools::test
