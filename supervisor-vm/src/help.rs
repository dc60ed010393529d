//! What an operator is told who asks which commands there are.

/// What `help` says.
pub const HELP: &str = "\
vm list [--state STATE] [--image IMAGE] [--tenant TENANT] [--name BEGINNING] [--after VM] [--limit N] [--count] [--json]
                                           VMs that live, and those that have a name and were not started
vm show VM [--json]                        one of them
vm create NAME --image IMAGE [--memory SIZE] [--disk DISK[:ro]] [--weight N] [--tenant TENANT] [-- ARGUMENT...]
                                           a VM under this name, which does not run yet
vm start NAME                              let it run, from its image
vm pause VM                                let it stand still; it keeps its memory
vm resume VM                               let it go on
vm stop VM                                 ask it to end itself; its name stays
vm kill VM                                 end it; its name stays
vm destroy VM                              end it, and forget its name
vm top [--limit N] [--json]                the VMs that take most of the processor's time now
vm console VM [--for SECONDS]              its console, both ways; when standard input has ended, until it was quiet for SECONDS (1)
vm console VM --follow [--for SECONDS]     what it says, as it comes; SECONDS long
fleet apply [--disk DISK[:PATH]] [--dry-run] [--replace] [--prune] [--json]
                                           let the VMs be as the file on standard input says, or the one at PATH (vms.toml) on a virtual disk
component list [--json]                    the components of the machine
component restart COMPONENT                kill it; it starts from its module
policy list [--json]                       which programs can fill the components' roles, and which do
policy show COMPONENT [--json]             those of one component
policy set COMPONENT POLICY                let it run with that one from now on
image list [--name BEGINNING] [--after IMAGE] [--limit N] [--count] [--json]
                                           what VMs can be made of
image show IMAGE [--json]                  one of them
image put IMAGE [--memory SIZE] [--sha256 DIGEST] [-- ARGUMENT...]
                                           take the program on standard input as an image
image rm IMAGE                             forget one that was put, when no VM is made of it
disk list [--json]                         virtual disks, and which VMs have them
disk create DISK SIZE [--tenant TENANT]    a new one, of zeros, which counts for a tenant
disk snapshot DISK NEW                     keep what one holds now, as another one that is never written
disk rm DISK                               remove one that no VM has, and on which none lies
disk attach NAME DISK[:ro]                 let a VM that does not run have it from its next start on
disk detach NAME                           let it have none
tenant list [--json]                       tenants, what their VMs are and may hold, and their quotas
tenant show TENANT [--json]                one of them
tenant set TENANT [--vms N|unlimited] [--memory SIZE|unlimited] [--disk SIZE|unlimited] [--pool SIZE|unlimited] [--wakes N|unlimited] [--rate SIZE|unlimited]
                                           what its VMs may be and hold together, and its virtual disks have, from now on
node show [--json]                         the machine
state begin-anew                           write over the operator's own disk, where it is not used, and keep what is known now
node shutdown                              power it off; VMs are not asked first
token new NAME [--json]                    a token with which a program may do all this over HTTP; it is shown once
token list [--json]                        the tokens there are
token rm NAME                              take it away
log [--lines N] [--level LEVEL] [--from WHO] [--json]
                                           the last lines of the machine's log: 50; as serious as LEVEL or more; said by core, a component or a VM
log --follow [--for SECONDS]               and what is said then, as it comes; SECONDS long
audit                                      who has done what, and which VMs have ended
metrics                                    figures of the machine and its VMs, in Prometheus' text format
help                                       this
VM is a name or an id, as vm2.1. Commands can be joined with &&. Each that changes something takes --json, too.
";
