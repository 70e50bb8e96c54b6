// SPDX-License-Identifier: Apache-2.0
// preflight.cpp -- one rule a trap; ids are stable and listed in the README.
#include "preflight.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace ivds {
namespace {

using Severity = Finding::Severity;

constexpr std::uint32_t kOneBufferMtu = 3050;  // what fits one page with headroom and the two tags

template <std::size_t N>
bool among(const std::string& word, const std::array<const char*, N>& words) {
    return std::ranges::any_of(words, [&](const char* w) { return word == w; });
}

constexpr std::array kVfDrivers = {"ixgbevf", "igbvf", "iavf", "i40evf", "fm10k"};
// Drivers that take redirected frames only while they have an XDP program of their own.
constexpr std::array kOwnProgramTargets = {"ixgbe", "igb", "igc", "ice", "i40e"};
// Interfaces whose frames come from a NIC, a VM or the other end of a pair, and not from another interface below.
constexpr std::array kFirstHand = {"", "veth", "tun"};
constexpr std::array kResetAtFirst = {"ixgbe", "igb", "igc", "ice", "i40e", "mlx5_core", "ixgbevf"};

bool on(const std::optional<Features>& features, const char* name) {
    if (!features) {
        return false;
    }
    const auto found = features->find(name);
    return found != features->end() && found->second.on;
}
bool stuck(const std::optional<Features>& features, const char* name) {
    return on(features, name) && features->at(name).fixed;
}
// Wants `name` off (or on) where it is not so yet.
void want(FeatureChange& change, const std::optional<Features>& features, const char* name, bool state) {
    if (features && features->contains(name) && features->at(name).on != state) {
        change.wanted[name] = state;
    }
}

class Rules {
public:
    explicit Rules(const Facts& facts) : facts_(facts), dev_(facts.netdev) {}

    Decision decide() {
        mtu();
        names();
        beside();
        choose_tc();
        if (facts_.inspector) {
            whole_frames();
        } else {
            choose_xdp();
            targets();
        }
        return std::move(decision_);
    }

private:
    void find(Severity severity, const char* id, std::string text, std::string fix = {}) {
        decision_.findings.push_back({severity, id, dev_.name, std::move(text), std::move(fix)});
    }
    void refuse(const char* id, std::string text, std::string fix) {
        find(Severity::error, id, std::move(text), std::move(fix));
    }

    void mtu() {
        const std::uint32_t needed = facts_.mtu_bytes + (facts_.uplink ? IVDS_TAGS_BYTES : 0);
        if (facts_.mtu_bytes == 0 || dev_.mtu >= needed) {
            return;
        }
        if (facts_.uplink) {
            find(Severity::warning, "IVDS-P007",
                 fmt::format(
                     "MTU {} of uplink {} is less than the {} of an instance over it plus {} for the two tags; "
                     "larger frames drop (oversize_out)",
                     dev_.mtu, dev_.name, facts_.mtu_bytes, IVDS_TAGS_BYTES),
                 fmt::format("ip link set {} mtu {}, and the same on the switches; or lower the instance's MTU",
                             dev_.name, needed));
        } else {
            find(Severity::warning, "IVDS-P007",
                 fmt::format("MTU {} of {} is less than the {} of vport {}; larger frames to the VM are lost there",
                             dev_.mtu, dev_.name, facts_.mtu_bytes, facts_.port),
                 fmt::format("ip link set {} mtu {}, and the same in the VM; or lower the vPort's MTU", dev_.name,
                             needed));
        }
    }

    void names() {
        if (dev_.name.find('.') != std::string::npos) {
            find(Severity::info, "IVDS-P010",
                 fmt::format("a bpffs takes no dots; the pins of {} are under links/{}-{}", dev_.name, dev_.ifindex,
                             "NAME with %2E for each dot"));
        }
    }

    void beside() {
        for (const auto& program : facts_.dispatcher.others) {
            find(Severity::info, "IVDS-P013",
                 fmt::format("a program of somebody else is in libxdp's dispatcher on {}: id {}, {}, tag {}",
                             dev_.name, program.id, program.name, program.tag));
        }
        for (const auto& program : facts_.foreign_tcx) {
            find(
                Severity::info, "IVDS-P013",
                fmt::format("a program of somebody else is on the tcx hook of {}: id {}, {}, tag {}; ours runs first",
                            dev_.name, program.id, program.name, program.tag));
        }
        if (facts_.uplink && dev_.num_vf > 0) {
            find(Severity::info, "IVDS-P006",
                 fmt::format("{} has {} VFs: what its own switch passes between VFs never reaches software",
                             dev_.name, dev_.num_vf));
        }
        if (!facts_.uplink && among(facts_.driver, kVfDrivers)) {
            find(Severity::warning, "IVDS-P005",
                 fmt::format(
                     "{} is a VF ({}): frames for this port go out of the VF into the NIC's switch, not into a guest "
                     "that owns another VF",
                     dev_.name, facts_.driver),
                 "bind the vPort to the interface that leads to the guest, or place it in hardware");
        }
    }

    void choose_tc() {
        decision_.tc = Point::tcx;
        if (facts_.wanted == AttachMode::clsact) {
            decision_.tc = Point::clsact;
            decision_.reason = "clsact as asked";
        } else if (!facts_.has_tcx) {
            decision_.tc = Point::clsact;
            decision_.reason = "this kernel has no tcx (Linux 6.6)";
            if (facts_.wanted == AttachMode::tcx) {
                refuse("IVDS-P015", fmt::format("tcx on {}: this kernel has none", dev_.name),
                       "use mode auto or clsact, or Linux 6.6 or newer");
            }
        } else if (facts_.wanted == AttachMode::tcx) {
            decision_.reason = "tcx as asked";
        }
    }

    void choose_xdp() {
        switch (facts_.wanted) {
            case AttachMode::native:
                decision_.xdp = alone_or_shared(Point::native);
                decision_.reason = shared() ? via_dispatcher("native") + ", as asked" : "native as asked";
                native_rules();
                break;
            case AttachMode::generic:
                decision_.xdp = alone_or_shared(Point::generic);
                decision_.reason = shared() ? via_dispatcher("generic") + ", as asked" : "generic as asked";
                break;
            case AttachMode::automatic:
                automatic();
                return;
            case AttachMode::tcx:
            case AttachMode::clsact:
                return;
        }
        if (in_the_way()) {
            refuse("IVDS-P012", foreign_text(), foreign_fix());
        } else if (shared() && !facts_.cannot_share.empty()) {
            refuse("IVDS-P020", cannot_share_text(),
                   "use mode auto or tcx, which run beside any XDP program; or leave --xdp-coexist away, and XDP is "
                   "ours alone; or take a kernel with freplace, like Debian's");
        }
        strip_rules();
        veth_rules();
    }

    // The hook is ours alone, by a link, unless the operator asked to share it or it is shared already: that stays,
    // as others may have come to rely on it.
    [[nodiscard]] Point alone_or_shared(Point alone) const {
        const auto shared = alone == Point::native ? Point::shared_native : Point::shared_generic;
        return facts_.coexist || facts_.hooks.xdp == shared ? shared : alone;
    }
    [[nodiscard]] bool shared() const { return decision_.xdp && is_shared(*decision_.xdp); }
    [[nodiscard]] std::string via_dispatcher(const char* mode) const {
        std::string text = fmt::format("{} XDP through libxdp's dispatcher", mode);
        const char* before = " beside ";
        for (const auto& program : facts_.dispatcher.others) {
            text += before + program.name;
            before = ", ";
        }
        return text;
    }

    // Virtual interfaces take TC: frames keep their GSO form there, while XDP would take TCP apart. Hardware
    // takes native XDP unless a rule speaks against it; then the rule is the reason.
    void automatic() {
        const auto to_tc = [&](const std::string& why) {
            decision_.xdp.reset();
            decision_.reason = why + (decision_.reason.empty() ? "" : "; " + decision_.reason);
        };
        if (!dev_.is_hardware()) {
            to_tc(dev_.kind + ": TC keeps large TCP whole, XDP would not");
            return;
        }
        if (!dev_.xdp_features) {
            to_tc("this kernel does not say what XDP the driver has (Linux 6.3)");
            return;
        }
        Rules as_native(facts_);
        as_native.decision_.xdp = alone_or_shared(Point::native);
        if (as_native.in_the_way()) {
            to_tc(foreign_text());
            return;
        }
        if (as_native.shared() && !facts_.cannot_share.empty()) {
            find(Severity::warning, "IVDS-P020", cannot_share_text(),
                 "leave --xdp-coexist away, and XDP is ours alone; TC carries the frames meanwhile");
            to_tc(cannot_share_text() + " [IVDS-P020]");
            return;
        }
        as_native.native_rules();
        as_native.strip_rules();
        if (const auto* error = as_native.decision_.error()) {
            to_tc(fmt::format("{} [{}]", error->text, error->id));
            return;
        }
        decision_.xdp = as_native.decision_.xdp;
        decision_.reason = fmt::format("driver {} has native XDP with redirect", facts_.driver);
        if (shared()) {
            decision_.reason += "; " + via_dispatcher("native");
        }
        decision_.changes = as_native.decision_.changes;
        for (auto& finding : as_native.decision_.findings) {
            decision_.findings.push_back(std::move(finding));
        }
    }

    void native_rules() {
        if (facts_.driver == "ixgbe" && dev_.num_vf > 0) {
            refuse(
                "IVDS-P001",
                fmt::format("native XDP on {}: ixgbe refuses it while SR-IOV is on ({} VFs)", dev_.name, dev_.num_vf),
                "use mode auto or tcx; or echo 0 > sriov_numvfs first");
            return;
        }
        if (among(facts_.driver, kVfDrivers) && (dev_.xdp_features.value_or(0) & kXdpRedirect) == 0) {
            refuse("IVDS-P002", fmt::format("native XDP on {}: {} cannot redirect", dev_.name, facts_.driver),
                   "use mode auto or tcx");
            return;
        }
        if (dev_.xdp_features && (*dev_.xdp_features & (kXdpBasic | kXdpRedirect)) != (kXdpBasic | kXdpRedirect)) {
            refuse("IVDS-P016",
                   fmt::format("native XDP on {}: its driver{} has no native XDP with redirect", dev_.name,
                               facts_.driver.empty() ? "" : " " + facts_.driver),
                   "use mode auto, tcx or generic");
            return;
        }
        if (dev_.is_hardware() && dev_.mtu > kOneBufferMtu &&
            (dev_.xdp_features.value_or(0) & (1u << 5)) == 0) {  // RX_SG: frames over several buffers
            refuse("IVDS-P017",
                   fmt::format("native XDP on {}: MTU {} does not fit one buffer and the driver takes no more",
                               dev_.name, dev_.mtu),
                   fmt::format("lower the MTU to {} or less, or use mode tcx", kOneBufferMtu));
            return;
        }
        const bool is_there =
            facts_.hooks.xdp == decision_.xdp || (shared() && facts_.dispatcher.there && !dev_.xdp_generic);
        if (among(facts_.driver, kResetAtFirst) && !is_there) {
            find(Severity::info, "IVDS-P004",
                 fmt::format(
                     "the first native program on {} ({}) resets the NIC: seconds without frames; later upgrades "
                     "do not",
                     dev_.name, facts_.driver),
                 "attach at boot, before there is traffic (ivds-loader)");
        }
    }

    // The kernel does what the interface cannot: it cuts large frames into segments, computes their checksums and
    // puts tags into the bytes, so that the inspector sees what a wire would carry.
    void whole_frames() {
        if (decision_.reason.empty()) {
            decision_.reason = "an inspector's: TC alone";
        }
        FeatureChange change;
        for (const auto& [name, feature] : facts_.features.value_or(Features{})) {
            if (name.starts_with("tx-") && feature.on && !feature.fixed) {
                change.wanted[name] = false;
            }
        }
        if (!change.wanted.empty()) {
            decision_.changes.push_back(std::move(change));
        }
    }

    // XDP sees the bytes: a tag that the NIC strips is not there, and LRO makes frames too large. Tags that the NIC
    // inserts are left to it: they concern what goes out by TC, and a card may find the checksum of a frame behind
    // one tag in the bytes but not behind two. (A driver such as igb turns both off together.)
    void strip_rules() {
        if (!among(dev_.kind, kFirstHand)) {
            refuse(
                "IVDS-P021",
                fmt::format("XDP on {}: a {} gets its frames from the interfaces below, where the kernel has already "
                            "taken the outer tag off (generic) or runs the program as theirs (native)",
                            dev_.name, dev_.kind),
                "use mode auto, tcx or clsact");
            return;
        }
        if (!facts_.features) {
            return;
        }
        for (const char* name : {"rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"}) {
            if (!dev_.is_veth() && stuck(facts_.features, name)) {
                refuse("IVDS-P008",
                       fmt::format(
                           "XDP on {}: {} is on and the driver does not let it be off, so the outer tag is hidden",
                           dev_.name, name),
                       "use mode auto or tcx");
                return;
            }
        }
        FeatureChange change;
        if (!dev_.is_veth()) {
            want(change, facts_.features, "rx-vlan-hw-parse", false);
            want(change, facts_.features, "rx-vlan-stag-hw-parse", false);
            if (stuck(facts_.features, "rx-lro")) {
                refuse("IVDS-P014", fmt::format("XDP on {}: LRO is on and cannot be off", dev_.name), "use mode tcx");
                return;
            }
            want(change, facts_.features, "rx-lro", false);
        }
        if (!change.wanted.empty()) {
            decision_.changes.push_back(std::move(change));
        }
    }

    // Frames that come out of a veth were sent at its peer: with checksums and tags left to "hardware" XDP would
    // pass them on broken, and frames redirected into the veth arrive only if the peer polls (GRO).
    void veth_rules() {
        if (!dev_.is_veth()) {
            return;
        }
        if (!facts_.peer_features) {
            refuse("IVDS-P009",
                   fmt::format(
                       "XDP on the veth {}: its peer must have GRO on and checksum, TSO and VLAN offload off, and "
                       "cannot be reached ({})",
                       dev_.name, facts_.peer_error),
                   "let the peer's namespace be found (ip netns), or use mode auto or tcx");
            return;
        }
        FeatureChange change;
        change.peer = true;
        want(change, facts_.peer_features, "rx-gro", true);
        for (const auto& [name, feature] : *facts_.peer_features) {
            const bool segments = name.starts_with("tx-") && name.ends_with("-segmentation");
            if (feature.on && !feature.fixed &&
                (segments || name.starts_with("tx-checksum-") || name.starts_with("tx-vlan-"))) {
                change.wanted[name] = false;
            }
        }
        if (!change.wanted.empty()) {
            decision_.changes.push_back(std::move(change));
        }
    }

    void targets() {
        if (!decision_.xdp && among(facts_.driver, kOwnProgramTargets)) {
            find(Severity::info, "IVDS-P003",
                 fmt::format(
                     "{} ({}) takes redirected frames only with an XDP program of its own; frames to it go by TC",
                     dev_.name, facts_.driver));
        }
    }

    // A program of somebody else is no hindrance if it is in a dispatcher of the mode that we shall have, and we
    // shall be in it too.
    [[nodiscard]] bool in_the_way() const {
        if (shared() && facts_.dispatcher.there) {
            return !facts_.dispatcher.others.empty() && dev_.xdp_generic != (decision_.xdp == Point::shared_generic);
        }
        return facts_.foreign_xdp.has_value();
    }
    [[nodiscard]] std::string foreign_text() const {
        if (facts_.dispatcher.there) {
            std::string names;
            for (const auto& program : facts_.dispatcher.others) {
                names += fmt::format("{}{} (id {}, tag {})", names.empty() ? "" : ", ", program.name, program.id,
                                     program.tag);
            }
            return fmt::format("libxdp's dispatcher is on {} in {} mode, with {}", dev_.name,
                               dev_.xdp_generic ? "generic" : "native", names.empty() ? "no program" : names);
        }
        return fmt::format("an XDP program of somebody else is on {}: id {}, {}, tag {}", dev_.name,
                           facts_.foreign_xdp->id, facts_.foreign_xdp->name, facts_.foreign_xdp->tag);
    }
    [[nodiscard]] std::string foreign_fix() const {
        if (facts_.dispatcher.there) {
            return facts_.coexist ? "all that share a hook run in one mode: use that mode here, or load the others "
                                    "anew in this one"
                                  : "start ivdsd with --xdp-coexist to run beside it, or use mode tcx";
        }
        if (facts_.coexist) {
            return "it is not in libxdp's dispatcher and cannot be shared: attach it with `xdp-loader load`, or use "
                   "mode tcx, which runs beside it; it is never replaced";
        }
        return "detach it by the tool that attached it, or use mode tcx; it is never replaced";
    }
    [[nodiscard]] std::string cannot_share_text() const {
        return fmt::format("XDP on {} cannot be shared through libxdp: {}", dev_.name, facts_.cannot_share);
    }

    const Facts& facts_;
    const Netdev& dev_;
    Decision decision_;
};

}  // namespace

const Finding* Decision::error() const {
    const auto found = std::ranges::find(findings, Severity::error, &Finding::severity);
    return found == findings.end() ? nullptr : &*found;
}

Decision decide(const Facts& facts) {
    return Rules(facts).decide();
}

bool xdp_is_a_question(const Netdev& netdev, AttachMode wanted) {
    return wanted == AttachMode::native || wanted == AttachMode::generic ||
           (wanted == AttachMode::automatic && netdev.is_hardware());
}

Facts gather(Kernel& kernel, Facts basic) {
    Facts facts = std::move(basic);
    facts.has_tcx = kernel.has_tcx();
    if (facts.inspector) {
        if (auto features = kernel.features(facts.netdev, false)) {
            facts.features = std::move(*features);
        }
        return facts;
    }
    if (!xdp_is_a_question(facts.netdev, facts.wanted)) {
        return facts;
    }
    facts.driver = kernel.driver(facts.netdev.name).value_or("");
    if (auto features = kernel.features(facts.netdev, false)) {
        facts.features = std::move(*features);
    }
    if (facts.netdev.is_veth()) {
        if (auto features = kernel.features(facts.netdev, true)) {
            facts.peer_features = std::move(*features);
        } else {
            facts.peer_error = features.error().what;
        }
    }
    const bool ours_alone = facts.hooks.xdp && !is_shared(*facts.hooks.xdp);
    if (facts.netdev.xdp_program != 0 && !ours_alone) {
        facts.dispatcher = kernel.dispatcher(facts.netdev.ifindex);
    }
    if (facts.netdev.xdp_program != 0 && !facts.hooks.xdp) {
        facts.foreign_xdp = kernel.program_info(facts.netdev.xdp_program);
    }
    if (facts.coexist) {
        if (auto r = kernel.can_share(); !r) {
            const auto& error = r.error();
            facts.cannot_share =
                error.os_errno == 0 ? error.what : fmt::format("{}: {}", error.what, std::strerror(error.os_errno));
        }
    }
    return facts;
}

Error to_error(const Finding& finding) {
    const Code code = finding.id == "IVDS-P012" ? Code::foreign : Code::unsupported;
    return Error{code, finding.id, finding.text, finding.fix, 0};
}

}  // namespace ivds
