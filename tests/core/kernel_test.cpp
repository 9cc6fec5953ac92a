// How an op's kernel is chosen, on toy ops whose kernels only note that they ran.
#include "support/errors.h"

#include <cstdlib>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <thread>

#include <trinix/core/error.h>
#include <trinix/core/kernel.h>
#include <trinix/core/log.h>

namespace trinix {
namespace {

using testing::message_of;

// The prefix of the op's name keeps it apart from real ones in list_kernels().
template <int id, bool has_reference>
struct Toy {
  static constexpr char kNames[4][12] = {"toy_0", "toy_1", "toy_2", "toy_3"};
  static constexpr const char* kName = kNames[id];
  static constexpr bool kHasReference = has_reference;
  struct Forward {
    int width = 0;
    const char** ran = nullptr;
  };
  struct Backward {
    const char** ran = nullptr;
  };
};

using Plain = Toy<0, false>;     // no reference twin
using Twinned = Toy<1, true>;    // with one
using Empty = Toy<2, false>;     // nothing registered
using Forgiving = Toy<3, true>;  // for the test that counts log lines

template <class Op>
const char* only_narrow(const typename Op::Forward& args, bool) {
  return args.width > 64 ? "takes a width of at most 64" : nullptr;
}
template <class Op>
const char* only_without_grad(const typename Op::Forward&, bool needs_grad) {
  return needs_grad ? "keeps nothing for a backward" : nullptr;
}

template <class Op>
void register_toys() {
  const auto backward = [](const typename Op::Backward& args, const Stream&) { *args.ran = "backward"; };
  // Registered in another order than that of their priorities.
  register_kernel<Op>({"plain", Kernel::fused, DeviceType::cpu, 0, nullptr,
                       [](const typename Op::Forward& args, const Stream&) { *args.ran = "plain"; }, backward});
  register_kernel<Op>({"narrow", Kernel::flash, DeviceType::cpu, 20, only_narrow<Op>,
                       [](const typename Op::Forward& args, const Stream&) { *args.ran = "narrow"; }, backward});
  register_kernel<Op>({"forward only", Kernel::flash, DeviceType::cpu, 10, nullptr,
                       [](const typename Op::Forward& args, const Stream&) { *args.ran = "forward only"; }, nullptr});
  register_kernel<Op>({"careful", Kernel::fused, DeviceType::cpu, 5, only_without_grad<Op>,
                       [](const typename Op::Forward& args, const Stream&) { *args.ran = "careful"; }, backward});
  register_kernel<Op>({"elsewhere", Kernel::flash, DeviceType::cuda, 100, nullptr,
                       [](const typename Op::Forward& args, const Stream&) { *args.ran = "elsewhere"; }, backward});
}

class KernelChoosing : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    static const bool once = [] {  // also when the tests are repeated in one process
      initialize();
      register_toys<Plain>();
      register_toys<Twinned>();
      register_toys<Forgiving>();
      return true;
    }();
    static_cast<void>(once);
  }
};

/// Name of the kernel chosen for the op, "(reference)" for the composed twin.
template <class Op>
std::string choose(int width, bool needs_grad, KernelChoice argument = {}) {
  const Impl<Op>* found = KernelTable<Op>::instance().select({.width = width}, Device::cpu(), needs_grad, argument);
  return found == nullptr ? "(reference)" : found->name;
}

TEST_F(KernelChoosing, TheHighestPriorityWithNothingAgainstIt) {
  EXPECT_EQ(choose<Plain>(64, false), "narrow");
  EXPECT_EQ(choose<Plain>(65, false), "forward only");
  EXPECT_EQ(choose<Plain>(64, true), "narrow");
}

TEST_F(KernelChoosing, AnImplementationWithoutBackwardIsOutWhenGradIsNeeded) {
  EXPECT_EQ(choose<Plain>(65, true), "plain");  // "forward only" has none, "careful" says so itself
}

TEST_F(KernelChoosing, ANamedKindIsTheOnlyOneConsidered) {
  EXPECT_EQ(choose<Plain>(8, false, Kernel::fused), "careful");
  EXPECT_EQ(choose<Plain>(8, true, Kernel::fused), "plain");
  EXPECT_EQ(choose<Plain>(65, false, Kernel::flash), "forward only");
}

TEST_F(KernelChoosing, ANamedKindThatCannotRunListsEveryCandidateAndItsReason) {
  EXPECT_EQ(message_of<KernelUnavailable>([] { choose<Plain>(65, true, Kernel::flash); }),
            "[toy_0] no flash kernel on cpu takes these arguments\n"
            "  narrow (flash): takes a width of at most 64\n"
            "  forward only (flash): has no backward, and an input requires grad\n"
            "  careful (fused): is of another kind\n"
            "  plain (fused): is of another kind");
}

TEST_F(KernelChoosing, AnOpWithNoImplementationSaysSo) {
  EXPECT_EQ(message_of<KernelUnavailable>([] { choose<Empty>(1, false); }),
            "[toy_2] no automatic kernel on cpu takes these arguments; none is registered for this device");
}

TEST_F(KernelChoosing, TheReferenceTwinRunsWhenAskedForAndWhenNothingElseCan) {
  EXPECT_EQ(choose<Twinned>(8, true, Kernel::reference), "(reference)");
  EXPECT_EQ(last_kernel("toy_1"), "reference");
  EXPECT_EQ(message_of<KernelUnavailable>([] { choose<Plain>(8, true, Kernel::reference); }).substr(0, 61),
            "[toy_0] no reference kernel on cpu takes these arguments\n  na");
}

TEST_F(KernelChoosing, FallbackChoosesAutomaticallyAndIsLoggedOnce) {
  std::vector<std::string> lines;
  set_log_handler([&](std::string_view text) { lines.emplace_back(text); });
  const KernelChoice flash_or_else(Kernel::flash, OnUnavailable::fallback);
  EXPECT_EQ(choose<Forgiving>(65, true, flash_or_else), "plain");
  EXPECT_EQ(choose<Forgiving>(65, true, flash_or_else), "plain");
  EXPECT_EQ(choose<Forgiving>(66, true, flash_or_else), "plain");
  EXPECT_EQ(choose<Forgiving>(8, true, flash_or_else), "narrow");
  set_log_handler({});
  EXPECT_THAT(lines,
              ::testing::ElementsAre("toy_3: no flash kernel can run with these arguments, using plain (said once)"));
}

TEST_F(KernelChoosing, AScopeSpeaksForOpsWithoutAnArgument) {
  {
    const KernelScope scope(Kernel::fused);
    EXPECT_EQ(choose<Twinned>(8, false), "careful");
    {
      const KernelScope inner(Kernel::reference);
      EXPECT_EQ(choose<Twinned>(8, false), "(reference)");
      EXPECT_EQ(choose<Twinned>(8, false, Kernel::flash), "narrow") << "the argument comes first";
    }
    EXPECT_EQ(choose<Twinned>(8, false), "careful") << "the inner scope has ended";
  }
  EXPECT_EQ(choose<Twinned>(8, false), "narrow");
}

TEST_F(KernelChoosing, AScopeDoesNotSpeakForOpsThatHaveNoChoice) {
  const KernelScope scope(Kernel::fused);
  EXPECT_EQ(choose<Plain>(8, false), "narrow");
}

TEST_F(KernelChoosing, AScopeThatCannotBeMetIsAnErrorLikeAnArgument) {
  const KernelScope scope(Kernel::flash);
  EXPECT_THROW(choose<Twinned>(65, true), KernelUnavailable);
  const KernelScope forgiving({Kernel::flash, OnUnavailable::fallback});
  set_log_handler({});
  EXPECT_EQ(choose<Twinned>(65, true), "plain");
}

TEST_F(KernelChoosing, AScopeOfOneThreadIsNotAnothers) {
  const KernelScope scope(Kernel::reference);
  std::string elsewhere;
  std::thread([&] { elsewhere = choose<Twinned>(8, false); }).join();
  EXPECT_EQ(elsewhere, "narrow");
  EXPECT_EQ(choose<Twinned>(8, false), "(reference)");
}

TEST_F(KernelChoosing, WhatRanLastCanBeAsked) {
  EXPECT_EQ(last_kernel("no such op"), "");
  static_cast<void>(choose<Plain>(8, false));
  EXPECT_EQ(last_kernel("toy_0"), "narrow");
  static_cast<void>(choose<Plain>(65, true));
  EXPECT_EQ(last_kernel("toy_0"), "plain");
}

TEST_F(KernelChoosing, RunCallsTheForwardOfTheChosen) {
  const char* ran = "nothing";
  run<Plain>({.width = 8, .ran = &ran}, Device::cpu());
  EXPECT_STREQ(ran, "narrow");
  run<Plain>({.width = 100, .ran = &ran}, Device::cpu());
  EXPECT_STREQ(ran, "forward only");
}

TEST_F(KernelChoosing, EveryImplementationIsListed) {
  std::vector<std::string> names;
  for (const KernelInfo& row : list_kernels()) {
    if (row.op != "toy_0") continue;
    names.push_back(row.name + (row.has_backward ? "" : ", no backward"));
  }
  EXPECT_THAT(names, ::testing::ElementsAre("narrow", "forward only, no backward", "careful", "plain", "elsewhere"));
}

TEST(Kernel, NamesComeBack) {
  for (const Kernel k : {Kernel::automatic, Kernel::flash, Kernel::fused, Kernel::reference}) {
    EXPECT_EQ(parse_kernel(name(k)), k);
  }
  EXPECT_EQ(message_of<ConfigError>([] { static_cast<void>(parse_kernel("triton")); }),
            "[kernel] unknown kernel 'triton': one of automatic, flash, fused, reference");
}

TEST(KernelDeathTest, TheEnvironmentComesAfterArgumentAndScope) {
  // The environment is read once per process, so this needs one of its own.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto check = [] {
    ::setenv("TRINIX_KERNEL", "fused", 1);
    bool right = resolve({}).kernel == Kernel::fused && resolve({}).otherwise == OnUnavailable::fallback;
    right = right && resolve(Kernel::flash).kernel == Kernel::flash;
    const KernelScope scope(Kernel::reference);
    right = right && resolve({}).kernel == Kernel::reference;
    std::exit(right ? 0 : 1);
  };
  EXPECT_EXIT(check(), ::testing::ExitedWithCode(0), "");
  const auto wrong = [] {
    ::setenv("TRINIX_KERNEL", "fast", 1);
    try {
      static_cast<void>(resolve({}));
    } catch (const ConfigError& e) {
      std::fputs(e.what(), stderr);
      std::exit(3);
    }
  };
  EXPECT_EXIT(wrong(), ::testing::ExitedWithCode(3), "unknown kernel 'fast'");
}

}  // namespace
}  // namespace trinix
