// SPDX-License-Identifier: Apache-2.0
// 82599.h -- Intel 82599: its capabilities, its registers and their fields. Nothing else knows an offset or a bit.
//
// Names are the datasheet's (322429, PF registers begin with "PF"); the Linux driver calls PFVTCTL VT_CTL, PFVML2FLT
// VMOLR, PFVLVF/PFVLVFB VLVF/VLVFB, PFUTA UTA, PFVMVIR VMVIR, PFVFRE/PFVFTE VFRE/VFTE, PFVMTXSW VMTXSW, PFVMECM
// VMECM, PFQDE QDE, PFMRCTL/PFMRVLAN/PFMRVM MRCTL/VMRVLAN/VMRVM, MAXFRS MHADD.
#pragma once

#include <cstddef>
#include <cstdint>

#include "nic/chip.h"
#include "nic/register_map.h"

namespace ivds::offload::i82599 {

[[nodiscard]] const Chip& chip();
[[nodiscard]] const RegisterMap& map();

enum class Reg : std::uint8_t {
    // Device and link
    ctrl,
    status,
    ctrl_ext,
    gpie,
    gcr_ext,
    links,
    hlreg0,
    maxfrs,
    mflcn,
    exvet,
    // Reception: L2 and VLAN filters
    rxctrl,
    fctrl,
    vlnctrl,
    mcstctrl,
    mta,
    ral,
    rah,
    mpsar,
    vfta,
    // Reception: queues
    mrqc,
    psrtype,
    reta,
    rssrk,
    etqf,
    etqs,
    saqf,
    daqf,
    sdpqf,
    ftqf,
    l34timir,
    synqf,
    rxdctl,
    srrctl,
    rxpbsize,
    fcrth,
    // Flow Director
    fdirctrl,
    fdirhkey,
    fdirskey,
    fdirdip4m,
    fdirsip4m,
    fdirtcpm,
    fdirudpm,
    fdirip6m,
    fdirm,
    fdirfree,
    fdirlen,
    fdirustat,
    fdirfstat,
    fdirmatch,
    fdirmiss,
    fdirsipv6,
    fdiripsa,
    fdiripda,
    fdirport,
    fdirvlan,
    fdirhash,
    fdircmd,
    // Transmission
    dmatxctl,
    mtqc,
    txdctl,
    rttdcs,
    rttdqsel,
    rttdt1c,
    rttbcnrm,
    rttbcnrc,
    // Virtualization
    pfvtctl,
    pfvflre,
    pfvflrec,
    pfvfre,
    pfvfte,
    pfqde,
    pfvmtxsw,
    pfvfspoof,
    pfdtxgswc,
    pfvmecm,
    pfvml2flt,
    pfvlvf,
    pfvlvfb,
    pfuta,
    pfvmvir,
    pfmrctl,
    pfmrvlan,
    pfmrvm,
    // Statistics
    ssvpc,
    gprc,
    bprc,
    mprc,
    gorcl,
    gorch,
    roc,
    rxmpc,
    rxnfgpc,
    rxdgpc,
    rxddpc,
    rxlpbkpc,
    rxdlpbkpc,
    gptc,
    gotcl,
    gotch,
    txdgpc,
    pvfgprc,
    pvfgorc_lsb,
    pvfgorc_msb,
    pvfmprc,
    pvfgptc,
    pvfgotc_lsb,
    pvfgotc_msb,
    rqsmr,
    tqsm,
    qprc,
    qbrc_l,
    qbrc_h,
    qprdc,
    qptc,
    qbtc_l,
    qbtc_h,
    end_of_list
};

[[nodiscard]] const Register& describe(Reg reg);
[[nodiscard]] std::uint32_t offset(Reg reg, unsigned element = 0);

// Fields, by register. What is not said here is in the datasheet's section that the table names.
namespace ctrl {
inline constexpr Field lrst{3}, rst{26};
}
namespace status {
inline constexpr Field link_up{7}, num_vfs{10, 8}, iov_active{18};
}
namespace ctrl_ext {
inline constexpr Field pfrstd{14}, extended_vlan{26}, drv_load{28};
}
namespace gpie {
inline constexpr Field vtmode{14, 2};  // 1, 2, 3: 16, 32, 64 pools, as in GCR_EXT
}
namespace gcr_ext {
inline constexpr Field vt_mode{0, 2};
}
namespace links {
inline constexpr Field speed{28, 2}, up{30};  // speed 1, 2, 3: 100 Mb/s, 1 Gb/s, 10 Gb/s
}
namespace hlreg0 {
inline constexpr Field jumboen{2};
}
namespace maxfrs {
inline constexpr Field mfs{16, 16};
}
namespace mflcn {
inline constexpr Field pmcf{0}, dpf{1}, rpfce{2}, rfce{3};
}
namespace exvet {
inline constexpr Field vet_ext{16, 16};
}
namespace rxctrl {
inline constexpr Field rxen{0};
}
namespace fctrl {
inline constexpr Field sbp{1}, mpe{8}, upe{9}, bam{10};
}
namespace vlnctrl {
inline constexpr Field vet{0, 16}, cfi{28}, cfien{29}, vfe{30};
}
namespace mcstctrl {
inline constexpr Field mo{0, 2}, mfe{2};
}
namespace rah {
inline constexpr Field address{0, 16}, av{31};
}
namespace mrqc {
inline constexpr Field mrqe{0, 4}, tcp_ipv4{16}, ipv4{17}, ipv6{20}, tcp_ipv6{21}, udp_ipv4{22}, udp_ipv6{23};
inline constexpr std::uint32_t rss = 1, vt64 = 8, vt32_rss = 10, vt64_rss = 11, vt16_dcb = 12, vt32_dcb = 13;
}  // namespace mrqc
namespace psrtype {
inline constexpr Field rqpl{29, 3};
}
namespace etqf {
inline constexpr Field etype{0, 16}, pool{20, 6}, pool_en{26}, fcoe{27}, ts_1588{30}, filter_en{31};
}
namespace etqs {
inline constexpr Field rx_queue{16, 7}, lli{29}, queue_en{31};
}
namespace ftqf {
inline constexpr Field protocol{0, 2}, priority{2, 3}, pool{8, 6}, ignore_source{25}, ignore_destination{26},
    ignore_source_port{27}, ignore_destination_port{28}, ignore_protocol{29}, ignore_pool{30}, queue_en{31};
inline constexpr std::uint32_t tcp = 0, udp = 1, sctp = 2, other = 3;
}  // namespace ftqf
namespace l34timir {
inline constexpr Field size_bp{12}, must_be_one{19}, lli{20}, rx_queue{21, 7};
}
namespace synqf {
inline constexpr Field queue_en{0}, rx_queue{1, 7}, synqfp{31};
}
namespace rxdctl {
inline constexpr Field enable{25}, vme{30};
}
namespace srrctl {
inline constexpr Field drop_en{28};
}
namespace fcrth {
inline constexpr Field rth{5, 14}, fcen{31};
}
namespace fdirctrl {
inline constexpr Field pballoc{0, 2}, init_done{3}, perfect{4}, report{5}, report_always{7}, drop_q{8, 7},
    flex_off{16, 5}, max_len{24, 4}, full_thresh{28, 4};
}
namespace fdirm {  // set: the field is not looked at
inline constexpr Field vlan_id{0}, vlan_priority{1}, pool{2}, l4_type{3}, flex{4}, destination_ipv6{5};
}
namespace fdirport {
inline constexpr Field source{0, 16}, destination{16, 16};
}
namespace fdirvlan {
inline constexpr Field vlan{0, 16}, flex{16, 16};
}
namespace fdirhash {
inline constexpr Field hash{0, 15}, bucket_valid{15}, software_index{16, 15};
}
namespace fdircmd {
inline constexpr Field cmd{0, 2}, filter_valid{2}, filter_update{3}, l4_type{5, 2}, ipv6{7}, clear_tables{8}, drop{9},
    interrupt{10}, last{11}, collision{12}, queue_en{15}, rx_queue{16, 7}, pool{24, 6};
inline constexpr std::uint32_t add = 1, remove = 2, query = 3;
inline constexpr std::uint32_t udp = 1, tcp = 2, sctp = 3;
}  // namespace fdircmd
namespace fdirustat {
inline constexpr Field added{0, 16}, removed{16, 16};
}
namespace fdirfstat {
inline constexpr Field failed_add{0, 8}, failed_remove{8, 8};
}
namespace fdirfree {
inline constexpr Field free{0, 16};
}
namespace dmatxctl {
inline constexpr Field te{0}, gdv{3}, vt{16, 16};
}
namespace mtqc {
inline constexpr Field rt_en{0}, vt_en{1}, num_tc_or_q{2, 2};
inline constexpr std::uint32_t no_vt = 0, vt64 = 0x6, vt32 = 0xa;
}  // namespace mtqc
namespace txdctl {
inline constexpr Field enable{25};
}
namespace rttdcs {
inline constexpr Field arbdis{6};
}
namespace rttdqsel {
inline constexpr Field txdq_idx{0, 7};
}
namespace rttbcnrm {
inline constexpr Field mmw_size{0, 11};
}
namespace rttbcnrc {  // rate factor: link speed over wanted rate, as 10.14 bit fixed point
inline constexpr Field rate_factor{0, 24}, rf_int{14, 10}, rs_ena{31};
}
namespace pfvtctl {
inline constexpr Field vt_en{0}, def_pl{7, 6}, dis_def_pl{29}, rpl_en{30};
}
namespace pfqde {
inline constexpr Field qde{0}, queue_idx{8, 7}, we{16}, re{17};
}
namespace pfvfspoof {  // of eight pools each
inline constexpr Field macas{0, 8}, vlanas{8, 8};
}
namespace pfdtxgswc {
inline constexpr Field lbe{0};
}
namespace pfvml2flt {
inline constexpr Field aupe{24}, rompe{25}, rope{26}, bam{27}, mpe{28};
}
namespace pfvlvf {
inline constexpr Field vlan_id{0, 12}, vi_en{31};
}
namespace pfvmvir {
inline constexpr Field port_vlan{0, 16}, vlana{30, 2};
inline constexpr std::uint32_t by_descriptor = 0, always = 1, never = 2;
}  // namespace pfvmvir
namespace pfmrctl {
inline constexpr Field vpme{0}, upme{1}, dpme{2}, vlme{3}, types{0, 4}, mp{8, 6};
}

}  // namespace ivds::offload::i82599
