// SPDX-License-Identifier: Apache-2.0
// `crossdock report`: which plots lines make, what they say, and that a page needs nothing from elsewhere.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "command/verbs.hpp"
#include "report/report_page.hpp"

namespace crossdock::tools {
namespace {

Line line(const char* op, int tokens, double us, const char* path = "staged", int num_sms = 0) {
  Line l;
  l.shape = {"NVIDIA H200", 4, 7168, 256, 8};
  l.host = "4x NVIDIA H200", l.driver = "580", l.date = "2026-11-22", l.commit = "abc";
  l.op = op, l.dtype = "bf16", l.layout = "token_major", l.path = path, l.combine_quant = "none", l.routing = "random",
  l.mode = "graph";
  l.tokens = tokens, l.us = us, l.num_sms = num_sms;
  l.wire_bytes = 38000.0 * tokens, l.limit_gbps = 357;
  return l;
}

Peers peers() {
  Peer near;
  near.shape = {"NVIDIA H200", 4, 7168, 256, 8};
  near.name = "NCCL EP", near.op = "dispatch", near.dtype = "bf16", near.leaves_out = "handles",
  near.source = "measured here";
  near.points = {{1, 18.6}, {128, 39.4}};
  Peer far = near;
  far.shape.device = "AMD MI355X", far.name = "MORI-EP", far.source = "published <there>";
  Peer other = near;
  other.op = "combine", other.name = "DeepEP", other.points = {{1, 11.6}};
  return {{near, far, other}, {{"NVIDIA H200", "measured", 4, 2.3, 357}}};
}

const Plot& plot(const std::vector<Section>& sections, const std::string& name) {
  for (const Section& section : sections)
    for (const Plot& p : section.plots)
      if (p.name == name) return p;
  throw std::runtime_error("no plot " + name);
}

std::vector<std::string> labels(const Plot& plot) {
  std::vector<std::string> all;
  for (const Series& series : plot.series) all.push_back(series.label);
  return all;
}

/// Lines of `crossdock bench --limits`.
const std::string kBarrier =
    R"({"limit":"barrier_kernel","ranks":4,"us":2.5,"gbps":null,"host":"4x NVIDIA H200","date":"today"})";
std::string push(const char* key, int row_bytes, double gbps) {
  return R"({"limit":")" + std::string(key) + R"(","ranks":4,"us":null,"host":"4x NVIDIA H200","row_bytes":)" +
         std::to_string(row_bytes) + R"(,"gbps":)" + std::to_string(gbps) + "}";
}

TEST(Report, TheFloorIsOfTheSameFileWhereItTells) {
  const std::string file = ::testing::TempDir() + "crossdock_floor.jsonl";
  const auto floors = [&](const std::string& text) {
    std::ofstream(file) << text;
    return read_floors({file});
  };
  EXPECT_TRUE(floors(kBarrier + "\n").empty()) << "one constant is no floor";
  EXPECT_TRUE(floors(kBarrier + "\n" + push("push_bulk", 14336, 380) + "\n" + push("pull_load", 7168, 390)).empty());
  const std::vector<Floor> found = floors(kBarrier + "\n" + push("push_store", 7168, 300) + "\n" +
                                          push("push_bulk", 7168, 350) + "\n" + push("push_bulk", 7168, 340) + "\n");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].us, 2.5);
  EXPECT_EQ(found[0].gbps, 350);
  const Line timed = line("dispatch", 1000, 120);  // 38 MB
  EXPECT_NEAR(*floor_us(timed, peers()), 2.3 + 38e3 / 357, 1e-9);
  const Peers ours = with_floors(peers(), found);
  EXPECT_NEAR(*floor_us(timed, ours), 2.5 + 38e3 / 350, 1e-9);
  const std::string page = page_of(sections_of({timed}, ours), ours);
  EXPECT_NE(page.find("floor: 2.5 µs + bytes / 350 GB/s"), std::string::npos);
  EXPECT_NE(page.find("`crossdock bench --limits`, " + file + " line 3"), std::string::npos);
  EXPECT_EQ(page.find("357 GB/s"), std::string::npos) << "the reference host's is not used, so not listed";
  std::remove(file.c_str());
}

TEST(Report, TimesStandBesideTheFloorAndThePeersOfTheSameMachine) {
  const auto sections = sections_of(
      {line("dispatch", 128, 20), line("dispatch", 1, 6), line("combine", 1, 5), line("combine", 1, 4, "zero_copy")},
      peers());
  ASSERT_EQ(sections.size(), 1u);
  const Plot& dispatch = plot(sections, "dispatch-bf16-4xh200");
  EXPECT_EQ(labels(dispatch), (std::vector<std::string>{"NCCL EP", "Crossdock", "floor"}));
  EXPECT_TRUE(dispatch.x.log && dispatch.y.log);
  ASSERT_EQ(dispatch.series[1].points.size(), 2u);
  EXPECT_EQ(dispatch.series[1].points[0].x, 1);  // fewest tokens first
  EXPECT_EQ(dispatch.series[1].points[1].y, 20);
  EXPECT_NEAR(dispatch.series[2].points[1].y, 2.3 + 38000.0 * 128 / 357e3, 1e-9);
  EXPECT_EQ(labels(plot(sections, "combine-bf16-4xh200")),
            (std::vector<std::string>{"DeepEP", "Crossdock, staged", "Crossdock, zero-copy", "floor"}));
  EXPECT_NE(dispatch.description.find("Crossdock: 1 token, 6.00 µs; 128 tokens, 20.00 µs."), std::string::npos)
      << dispatch.description;
}

TEST(Report, RatesAreSharesOfTheLimitAndOfSms) {
  std::vector<Line> lines = {line("dispatch", 4096, 480), line("dispatch", 4096, 600, "staged", 8),
                             line("dispatch", 4096, 500, "staged", 16), line("dispatch", 128, 30, "staged", 8),
                             line("dispatch", 128, 29, "staged", 16)};
  lines.front().launched_blocks = 132;
  const auto sections = sections_of(lines, {});
  const Plot& share = plot(sections, "share-4xh200");
  ASSERT_EQ(share.series.size(), 1u);
  ASSERT_EQ(share.series[0].points.size(), 1u);
  EXPECT_NEAR(share.series[0].points[0].y, 100 * 38000.0 * 4096 / 480e3 / 357, 1e-6);
  const Plot& sms = plot(sections, "sms-4xh200");
  EXPECT_NE(sms.title.find("4096 tokens"), std::string::npos);
  ASSERT_EQ(sms.series[0].points.size(), 3u);
  EXPECT_EQ(sms.series[0].points[0].x, 8);
  EXPECT_NEAR(sms.series[0].points[1].y, 38000.0 * 4096 / 500e3, 1e-6);
  EXPECT_EQ(sms.series[0].points[2].x, 132);
  EXPECT_EQ(sms.series[0].points[2].note.substr(0, 24), "132 blocks, unrestricted");
  EXPECT_THROW(plot(sections, "dispatch-fp8-4xh200"), std::runtime_error);
}

/// What is no plain case is in the table only; without bytes there is no floor and no rate.
TEST(Report, OnlyPlainLinesAreDrawn) {
  Line expert = line("dispatch", 1, 9), asked = line("dispatch", 1, 9), zipf = line("dispatch", 1, 9),
       plain = line("dispatch", 1, 9);
  expert.layout = "expert_major", asked.own_geometry = false, zipf.routing = "zipf";
  EXPECT_TRUE(sections_of({expert, asked, zipf}, peers())[0].plots.empty());
  plain.wire_bytes = 0;
  const auto sections = sections_of({plain}, peers());
  EXPECT_EQ(sections[0].plots.size(), 1u);
  EXPECT_EQ(labels(sections[0].plots[0]), (std::vector<std::string>{"NCCL EP", "Crossdock"}));
  EXPECT_FALSE(floor_us(plain, peers()));
}

TEST(Report, TheLeastTimeOfOthersIsOfTheSameCall) {
  Peers all = peers();
  Peer slow = all.peers[0];
  slow.name = "slow", slow.points = {{1, 30}};
  all.peers.push_back(slow);
  double us = 0;
  ASSERT_TRUE(best_peer(line("dispatch", 1, 6), all, us));
  EXPECT_EQ(us, 18.6);
  EXPECT_FALSE(best_peer(line("dispatch", 2, 6), all, us));
  EXPECT_FALSE(best_peer(line("pair", 1, 6), all, us));
}

TEST(Report, APageStandsAlone) {
  Line odd = line("dispatch", 1, 6);
  odd.driver = "<script>alert(1)</script>&";
  const std::string page = page_of(sections_of({odd, line("dispatch", 128, 20)}, peers()), peers());
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_NE(page.find("&lt;script&gt;alert(1)&lt;/script&gt;&amp;"), std::string::npos);
  for (const char* elsewhere : {"src=", "href=", "url(", "@import"})
    EXPECT_EQ(page.find(elsewhere), std::string::npos) << elsewhere;
  for (const char* part : {"prefers-color-scheme:dark", "viewport", "<title", "<desc", "MORI-EP",
                           "published &lt;there&gt;", "2026-11-22", "abc", "NCCL EP", "18.6"})
    EXPECT_NE(page.find(part), std::string::npos) << part;
}

TEST(Report, APlotStandsAlone) {
  const std::string svg =
      svg_of(plot(sections_of({line("dispatch", 1, 6), line("dispatch", 64, 20)}, peers()), "dispatch-bf16-4xh200"));
  EXPECT_EQ(svg.rfind("<svg xmlns=\"http://www.w3.org/2000/svg\"", 0), 0u);
  EXPECT_NE(svg.find("prefers-color-scheme:dark"), std::string::npos);
  EXPECT_NE(svg.find(">Crossdock</text>"), std::string::npos);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
}

TEST(Report, FilesThatAreNoneAreRefused) {
  const std::string file = testing::TempDir() + "report-lines";
  const auto refusal = [&](const std::string& text) {
    std::ofstream(file) << text;
    try {
      read_lines({file});
      return std::string();
    } catch (const BadInput& error) {
      return std::string(error.what());
    }
  };
  const std::string good =
      R"({"op":"dispatch","ranks":4,"tokens":1,"hidden":7168,"experts":256,"topk":8,"dtype":"bf16","scale_bytes":0,"layout":"token_major",)"
      R"("path":"staged","combine_quant":"none","routing":"random","num_sms":0,"mode":"graph","us_median":5.5,"us_p99":null,"wire_bytes":null,)"
      R"("host":"4x NVIDIA H200"})";
  EXPECT_EQ(refusal(good + "\n"), "");
  EXPECT_EQ(read_lines({file}).front().shape, (Shape{"NVIDIA H200", 4, 7168, 256, 8}));
  EXPECT_NE(refusal(good + "\n{}\n").find("line 2 is no line of `crossdock bench --jsonl`"), std::string::npos);
  EXPECT_NE(refusal("no json\n").find("line 1"), std::string::npos);
  std::string zero = good;
  EXPECT_NE(refusal(zero.replace(zero.find("5.5"), 3, "0.0")).find("must be more than 0"), std::string::npos);
  EXPECT_NE(refusal("").find("there is no line"), std::string::npos);
  EXPECT_NE(refusal(kBarrier).find("there is no line"), std::string::npos);
  EXPECT_THROW(read_lines({"/no/such/file"}), BadInput);
  std::ofstream(file) << R"({"series":[{"name":"x"}],"floors":[]})";
  EXPECT_THROW(read_peers(file), BadInput);
  std::remove(file.c_str());
}

}  // namespace
}  // namespace crossdock::tools
