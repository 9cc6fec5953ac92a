#include "program.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <trinix/tools/lib/config.h>
#include <trinix/version.h>

namespace trinix::tools {
namespace {

using test::ProgramResult;
using test::run_program;
using test::TempFolder;
using ::testing::HasSubstr;
using ::testing::StartsWith;

/// The one line that a mistake must get, with exit code 2.
std::string complaint(const std::vector<std::string>& args) {
  const ProgramResult result = run_program(args);
  EXPECT_EQ(result.code, 2) << result.err;
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, StartsWith("trinix: "));
  return result.err;
}

TEST(Program, TellsItsVersion) {
  const ProgramResult result = run_program({"--version"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.out, "trinix " TRINIX_VERSION "\n");
}

TEST(Program, HelpNamesEveryFlagWithItsDefault) {
  const ProgramResult result = run_program({"train", "--help"});
  EXPECT_EQ(result.code, 0);
  for (const char* flag : {"--data",
                           "--out",
                           "--preset",
                           "--config",
                           "--seed",
                           "--iters",
                           "--batch",
                           "--block",
                           "--layers",
                           "--heads",
                           "--width",
                           "--dropout",
                           "--lr",
                           "--min-lr",
                           "--warmup",
                           "--weight-decay",
                           "--clip",
                           "--grad-accum",
                           "--eval-interval",
                           "--eval-iters",
                           "--checkpoint-interval",
                           "--threads",
                           "--device",
                           "--dtype",
                           "--deterministic",
                           "--tokenizer",
                           "--resume"}) {
    EXPECT_THAT(result.out, HasSubstr(std::string("\n  ") + flag + " ")) << flag;
  }
  const TrainConfig defaults;
  for (const ConfigField& field : config_fields()) {
    const std::string value = value_text(defaults, field);
    if (!field.is_flag || value.empty() || field.name == "resume" || field.name == "deterministic") continue;
    // "COUNT=12" from one version of the parser, "COUNT [12]" from the next.
    EXPECT_THAT(result.out,
                ::testing::ContainsRegex("--" + std::string(field.name) + " [A-Z]+(=| \\[)" + value + "(\\]| )"));
  }
}

TEST(Program, ComplainsInOneLine) {
  EXPECT_THAT(complaint({}), HasSubstr("A subcommand is required"));
  EXPECT_THAT(complaint({"tain"}), HasSubstr("there is no command 'tain'"));
  EXPECT_THAT(complaint({"train", "--learning-rate", "1"}), HasSubstr("--learning-rate"));
  EXPECT_THAT(complaint({"train", "input.txt"}), HasSubstr("input.txt"));
  EXPECT_THAT(complaint({"train", "--lr"}), HasSubstr("--lr: 1 required NUMBER missing"));
  EXPECT_THAT(complaint({"train", "--lr", "nan"}), HasSubstr("--lr must be a finite number, not 'nan'"));
  EXPECT_THAT(complaint({"train", "--lr=1e400"}), HasSubstr("--lr must be a finite number, not '1e400'"));
  EXPECT_THAT(complaint({"train", "--lr", "-1"}), HasSubstr("--lr must be a finite number above 0, not -1"));
  EXPECT_THAT(complaint({"train", "--lr", "1,5"}), HasSubstr("--lr must be a finite number, not '1,5'"));
  EXPECT_THAT(complaint({"train", "--batch", "0"}), HasSubstr("--batch must be at least 1, not 0"));
  EXPECT_THAT(complaint({"train", "--batch", ""}), HasSubstr("--batch must be a whole number, not ''"));
  EXPECT_THAT(complaint({"train", "--heads", "3"}), HasSubstr("--heads 3 must divide --width 128"));
  EXPECT_THAT(complaint({"train", "--preset", "x"}), HasSubstr("there is no preset 'x'"));
  EXPECT_THAT(complaint({"train", "--config", "/nowhere.toml"}), HasSubstr("No such file or directory"));
  EXPECT_THAT(complaint({"sample", "--top-p", "0"}), HasSubstr("--top-p must lie above 0"));
  EXPECT_THAT(complaint({"sample", "--temperature", "inf"}), HasSubstr("--temperature must be a finite number"));
  EXPECT_THAT(complaint({"sample", "--prompt"}), HasSubstr("--prompt"));
}

TEST(Program, NamesTheLineOfABadConfigFile) {
  TempFolder folder;
  const std::string path = folder.add("run.toml", "layers = 2\nheads = \"4\"\n").string();
  EXPECT_THAT(complaint({"train", "--config", path}),
              HasSubstr("'heads' in '" + path + "', line 2 must be a number, not a string"));
}

TEST(Program, ShowsInfoAndKernels) {
  const ProgramResult info = run_program({"info"});
  EXPECT_EQ(info.code, 0);
  EXPECT_THAT(info.out, HasSubstr("devices    cpu "));
  EXPECT_THAT(info.out,
              ::testing::ContainsRegex("\n           (cuda:0  |no cuda: \\[device\\] cuda:0 was asked for, but )"));
  const ProgramResult kernels = run_program({"kernels"});
  EXPECT_EQ(kernels.code, 0) << kernels.err;
  EXPECT_THAT(kernels.out, StartsWith("op "));
  EXPECT_EQ(run_program({"kernels", "nonsense"}).code, 1);
}

TEST(Program, NoticesThatItsOutputIsLost) {
  TempFolder folder;
  const std::string err = (folder / "err").string();
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full here";
  EXPECT_EQ(test::wait_for_program(test::start_program({"info"}, "/dev/full", err)), 1);
  EXPECT_EQ(read_file(err), "trinix: cannot write the output: No space left on device\n");
}

}  // namespace
}  // namespace trinix::tools
