# fish completion for ringctl: asks the program itself what may follow.

function __ringctl_complete
    set -l words (commandline -opc)
    set -l last (commandline -ct)
    set -l out ($words[1] __complete $words[2..-1] "$last" 2>/dev/null)
    or return
    set -l directive (string sub -s 2 -- $out[-1])
    set -l flag (string match -r -- '^-.*=' "$last")
    set -e out[-1]
    for candidate in $out
        echo "$flag$candidate"
    end
    # 4: nothing else may stand here. Otherwise file names may.
    if test "$directive" = 0 -a (count $out) -eq 0
        __fish_complete_path "$last"
    end
end

complete -c ringctl -e
complete -c ringctl -f -a '(__ringctl_complete)'
