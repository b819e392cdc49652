# frozen_string_literal: true

# Print, as JSON, what Vagrant itself reads in the Vagrantfile beside this file: ruby vagrant/machines.rb
# (a Ruby that has Vagrant: Debian's package installs it as a library). Starts nothing, and needs no VirtualBox.
require "json"
require "vagrant"

env = Vagrant::Environment.new(cwd: __dir__, ui_class: Vagrant::UI::Silent)
machines = env.machine_names.to_h do |name|
  config = env.vagrantfile.machine_config(name, :virtualbox, nil, nil, false)[:config]
  sizes = config.vm.get_provider_config(:virtualbox).customizations.to_h { |_, command| [command[-2], command[-1].to_i] }
  [name, {
    box: config.vm.box,
    hostname: config.vm.hostname,
    addresses: config.vm.networks.filter_map { |kind, options| options[:ip] if kind == :private_network },
    memory: sizes["--memory"],
    cpus: sizes["--cpus"],
    own_key: config.ssh.insert_key,
    provisioners: config.vm.provisioners.map { |one| [one.name, one.type] },
  }]
end
puts JSON.pretty_generate(machines)
