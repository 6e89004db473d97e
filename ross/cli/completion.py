"""``ross completion``: scripts that let a shell complete command lines.

The scripts know nothing of Ross's commands: they ask ``ross __complete`` for each word, which is :mod:`ross.cli.complete`.
"""

from __future__ import annotations

from typing import Final, Literal

from ross.cli import output

Shell = Literal["bash", "zsh", "fish"]

_BASH: Final = r"""# bash completion of ross
#
# For this shell:   source <(ross completion bash)
# For every shell:  ross completion bash > /etc/bash_completion.d/ross

_ross_complete() {
    local IFS=$'\n'
    local -a answer
    mapfile -t answer < <("${COMP_WORDS[0]}" __complete bash "$COMP_WORDBREAKS" "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
    COMPREPLY=("${answer[@]:1}")
    case "${answer[0]}" in
        files) compopt -o default -o filenames 2>/dev/null ;;
        more) compopt -o nospace 2>/dev/null ;;
    esac
}

complete -F _ross_complete ross
"""

_ZSH: Final = r"""#compdef ross
# zsh completion of ross
#
# For this shell:   source <(ross completion zsh)
# For every shell:  ross completion zsh > "${fpath[1]}/_ross"

_ross() {
    local -a answer
    answer=("${(@f)$("${words[1]}" __complete zsh "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    case "${answer[1]}" in
        files) _files ;;
        more) compadd -Q -S '' -- "${(@q)answer[2,-1]}" ;;
        *) compadd -Q -- "${(@q)answer[2,-1]}" ;;
    esac
}

if [ "$funcstack[1]" = "_ross" ]; then
    _ross "$@"
else
    compdef _ross ross
fi
"""

_FISH: Final = r"""# fish completion of ross
#
# For this shell:   ross completion fish | source
# For every shell:  ross completion fish > ~/.config/fish/completions/ross.fish

function __ross_complete
    set -l words (commandline -opc)
    set -l answer ($words[1] __complete fish $words[2..-1] (commandline -ct) 2>/dev/null)
    if test "$answer[1]" = files
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $answer[2..-1]
    end
end

complete -c ross -f -a '(__ross_complete)'
"""

SCRIPTS: Final[dict[Shell, str]] = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def completion(shell: Shell, /) -> None:
    """Print a script that lets a shell complete command lines, names of containers and images included.

    Parameters
    ----------
    shell
        bash, zsh or fish. The script says how to install it.
    """
    output.write(SCRIPTS[shell])
