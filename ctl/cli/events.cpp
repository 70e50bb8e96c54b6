// SPDX-License-Identifier: Apache-2.0
// events.cpp -- what happened: ports up and down, forged sources, moved MACs, limits, applied changes.
#include <memory>
#include <ostream>

#include "command.h"
#include "table.h"

namespace ivds::cli {

void add_events_command(Commands& commands) {
    auto words = std::make_shared<std::pair<bool, std::uint64_t>>();
    CLI::App& app = commands.leaf(commands.root(), "events", "What happened; with --json one object a line",
                                  "ivds-ctl events --follow\nivds-ctl events --since 120 --json",
                                  [words](const Context& context) -> Result<int> {
                                      pb::EventsRequest wanted;
                                      wanted.set_follow(words->first);
                                      wanted.set_since(words->second);
                                      Table table({">SEQ", "TIME", "KIND", "PORT", "INSTANCE", "MAC", "TEXT"});
                                      const auto done = context.agent.events(wanted, [&](const pb::Event& event) {
                                          if (context.options.json) {
                                              context.json(event);
                                              return context.io.out.good();
                                          }
                                          table.row({Cell::number(event.sequence()),
                                                     {event.time()},
                                                     {event.kind()},
                                                     {event.port()},
                                                     {event.instance()},
                                                     {event.mac()},
                                                     {event.text()}});
                                          if (wanted.follow()) {
                                              table.print(context.io.out, context.io.color);
                                              context.io.out.flush();
                                          }
                                          return context.io.out.good();
                                      });
                                      if (!context.options.json) table.print(context.io.out, context.io.color);
                                      if (!done) return std::unexpected(done.error());
                                      return exit_ok;
                                  });
    app.add_flag("--follow", words->first, "go on and print events as they come");
    add_value(app, "--since", "N", words->second, "begin after this sequence number; 0: all still remembered");
}

}  // namespace ivds::cli
