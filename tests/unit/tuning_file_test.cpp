// SPDX-License-Identifier: Apache-2.0
// Tuning files: what is read, for which calls it counts, and every reason for which a file is refused.
#include "tuning/file.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "crossdock/error.hpp"
#include "crossdock/group.hpp"

namespace crossdock::tuning {
namespace {

const Stamp kHere{"NVIDIA H200", 4, "0.1.0"};
const std::string kTitle = "crossdock-tuning 1 version=0.1.0 ranks=4 device=NVIDIA H200\n";
const std::string kEntry = "op=dispatch dtype=bf16 hidden=7168 topk=8 experts_per_rank=64 tokens=8 num_blocks=16\n";

class TuningFile : public testing::Test {
 protected:
  std::string write(const std::string& text) const {
    std::ofstream(path_) << text;
    return path_;
  }
  /// The refusal of a file with this text, "" if it is taken.
  std::string refusal(const std::string& text) const {
    try {
      read_file(write(text), kHere);
      return "";
    } catch (const ConfigError& error) {
      return error.what();
    }
  }
  void expect_refusal(const std::string& text, const std::string& reason) const {
    const std::string is = refusal(text);
    EXPECT_EQ(is.rfind("tuning file " + path_, 0), 0u) << is;
    EXPECT_NE(is.find(reason), std::string::npos) << is << "\nmust say: " << reason;
  }
  ~TuningFile() override { std::remove(path_.c_str()); }
  const std::string path_ =
      testing::TempDir() + "tuning-" + testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(TuningFile, IsReadAndSortedByTokens) {
  const std::string more = "op=dispatch dtype=bf16 hidden=7168 topk=8 experts_per_rank=64 tokens=";
  const std::vector<Entry> all = read_file(
      write("# a comment\n\n" + kTitle + more + "128 num_warps=4 splits_per_row=3 num_sms=9\n" + kEntry + more +
            "64\nop=combine path=zero_copy dtype=fp8_e4m3 hidden=64 topk=2 experts_per_rank=3 tokens=5 "
            "splits_per_row=2\n"),
      kHere);
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(all[3].key, (Key{true, Path::zero_copy, Dtype::fp8_e4m3, 64, 2, 3}));
  const Key key{false, Path::staged, Dtype::bf16, 7168, 8, 64};
  const std::vector<Entry> mine = entries_of(all, key);
  ASSERT_EQ(mine.size(), 3u);
  EXPECT_EQ(request_for(mine, 0), (GeometryRequest{.num_blocks = 16}));
  EXPECT_EQ(request_for(mine, 8), (GeometryRequest{.num_blocks = 16}));
  EXPECT_EQ(request_for(mine, 9), GeometryRequest{});  // the rule is best up to 64
  EXPECT_EQ(request_for(mine, 65), (GeometryRequest{.num_sms = 9, .num_warps = 4, .splits_per_row = 3}));
  EXPECT_EQ(request_for(mine, 128), (GeometryRequest{.num_sms = 9, .num_warps = 4, .splits_per_row = 3}));
  EXPECT_EQ(request_for(mine, 129), GeometryRequest{});
  for (const Key& other :
       {Key{true, Path::staged, Dtype::bf16, 7168, 8, 64}, Key{false, Path::staged, Dtype::f16, 7168, 8, 64},
        Key{false, Path::staged, Dtype::bf16, 7160, 8, 64}, Key{false, Path::staged, Dtype::bf16, 7168, 7, 64},
        Key{false, Path::staged, Dtype::bf16, 7168, 8, 63}})
    EXPECT_TRUE(entries_of(all, other).empty());
}

TEST_F(TuningFile, OfElsewhereIsRefused) {
  EXPECT_EQ(refusal(kTitle + kEntry), "");
  const std::string here = "and here is version=0.1.0 ranks=4 device=NVIDIA H200; run `crossdock tune` here";
  for (const char* stamp : {"version=0.1.0 ranks=4 device=NVIDIA H100", "version=0.1.0 ranks=2 device=NVIDIA H200",
                            "version=0.2.0 ranks=4 device=NVIDIA H200"}) {
    expect_refusal("crossdock-tuning 1 " + std::string(stamp) + "\n" + kEntry, here);
    expect_refusal("crossdock-tuning 1 " + std::string(stamp) + "\n" + kEntry,
                   "line 1: it is for " + std::string(stamp));
  }
}

TEST_F(TuningFile, ThatIsNoneIsRefused) {
  expect_refusal("", "it is empty");
  expect_refusal("# nothing\n", "it is empty");
  expect_refusal(
      "\x7f"
      "ELF\n",
      "is no title");
  expect_refusal("crossdock-tuning 2 version=0.1.0 ranks=4 device=NVIDIA H200\n", "is no title");
  expect_refusal(kEntry + kTitle, "line 1: `op=dispatch");
  EXPECT_THROW(read_file("/no/such/file", kHere), ConfigError);
}

TEST_F(TuningFile, LinesThatCannotBeUnderstoodAreRefused) {
  const auto with = [](const std::string& from, const std::string& to) {
    std::string line = kEntry;
    return kTitle + line.replace(line.find(from), from.size(), to);
  };
  expect_refusal(with("num_blocks=16", "num_block=16"), "line 2: there is no key `num_block`");
  expect_refusal(with("num_blocks=16", "pieces=2"), "line 2: `pieces` is called `splits_per_row` now");
  expect_refusal(with("num_blocks=16", "16"), "`16` is no key=value");
  expect_refusal(with("num_blocks=16", "num_blocks=many"), "num_blocks = `many`; must be 0 to 2^24");
  expect_refusal(with("num_blocks=16", "num_blocks=-1"), "num_blocks = `-1`");
  expect_refusal(with("num_blocks=16", "num_blocks=16x"), "num_blocks = `16x`");
  expect_refusal(with("num_blocks=16", "num_blocks=99999999999"), "num_blocks = `99999999999`");
  expect_refusal(with("num_blocks=16", "num_blocks=1 num_blocks=2"), "`num_blocks` stands twice");
  expect_refusal(with("tokens=8", "tokens=0"), "tokens = `0`; must be 1 to 2^24");
  expect_refusal(with("tokens=8 ", ""), "`tokens` is missing");
  expect_refusal(with("dtype=bf16", "dtype=int8"), "dtype = `int8`; must be one of bf16, f16, f32");
  expect_refusal(with("op=dispatch", "op=pair"), "op = `pair`; must be one of dispatch, combine");
  expect_refusal(with("op=dispatch", "op=combine"), "`path` is missing");
  expect_refusal(with("op=dispatch", "op=dispatch path=staged"), "`path` is given");
  expect_refusal(kTitle + kEntry + kEntry, "line 3: an earlier line is about the same calls");
}

TEST_F(TuningFile, OfAnotherMachineKeepsAGroupFromForming) {
  GroupOptions options;
  options.backend = BackendKind::cpu;
  options.tuning_file = write(kTitle + kEntry);
  const ThreadTeam team(1);
  try {
    Group::join(team, 0, options);
    ADD_FAILURE() << "the group formed";
  } catch (const ConfigError& error) {
    EXPECT_EQ(std::string(error.what()).rfind("Group::join on rank 0: tuning file " + path_ + " line 1: it is for ", 0),
              0u)
        << error.what();
  }
  options.tuning_file = "none";
  EXPECT_NO_THROW(Group::join(team, 0, options));
}

}  // namespace
}  // namespace crossdock::tuning
